"""
``make compat``: the wheel in environments that users have, each with a smoke test on a real Airflow.

A row is an environment: a Python, an Airflow, and the versions that come with it.
"""
