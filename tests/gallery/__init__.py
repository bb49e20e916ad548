"""The Images tab's pages without an Airflow: canned documents, generated pictures, the strict policy."""
