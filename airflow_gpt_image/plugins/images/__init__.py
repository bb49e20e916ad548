"""Show images in Airflow's UI: pages, their data, and the images' own bytes."""
