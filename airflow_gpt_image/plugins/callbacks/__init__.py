"""Receive the API's callbacks in Airflow's API server: each one wakes the task that it was asked for."""
