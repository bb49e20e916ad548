from __future__ import annotations

from airflow.sdk import DAG, BaseOperator

with DAG("deferred", schedule=None):
    BaseOperator(task_id="wait")
