"""
What can be built with the http provider: three tasks for each prompt, in a mapped group.

In a group, because three mapped tasks in a row would each wait for all of the one before, and one refused
prompt would hold up all others. The submit isn't retried, and isn't deferred: both could pay twice.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from airflow.providers.http.operators.http import HttpOperator
from airflow.providers.http.sensors.http import HttpSensor
from airflow.sdk import DAG, PokeReturnValue, task, task_group
from airflow.sdk.exceptions import AirflowFailException


def body(prompt: str) -> str:
    return json.dumps({"model": "gpt-image-2", "input": {"prompt": prompt}})


def status_address(response: Any) -> str:
    return f"v1/tasks/{response.json()['data']['taskId']}"


def finished(response: Any) -> PokeReturnValue:
    generation = response.json()
    if generation["status"] == "failed":
        raise AirflowFailException(f"{generation['id']} failed: {generation['error']}")
    if generation["status"] != "completed":
        return PokeReturnValue(is_done=False)
    return PokeReturnValue(is_done=True, xcom_value=generation["output"]["urls"][0])


@task
def download(url: str) -> str:
    import requests

    answer = requests.get(url, timeout=60)
    answer.raise_for_status()
    path = Path(os.environ["BENCH_DESTINATION"], "mapped_http", url.rpartition("/")[2])
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    unfinished.write_bytes(answer.content)
    unfinished.replace(path)
    return str(path)


@task_group
def image(data: str) -> None:
    submit = HttpOperator(
        task_id="submit",
        http_conn_id="images_api",
        endpoint="v1/images/generations",
        data=data,
        headers={"Content-Type": "application/json"},
        response_filter=status_address,
        extra_options={"timeout": 60},
    )
    wait = HttpSensor(
        task_id="wait",
        http_conn_id="images_api",
        endpoint=submit.output,
        response_check=finished,
        extra_options={"timeout": 60},
        # A slot is free between two looks. Deferrable isn't a choice: the sensor's trigger takes any answer
        # but 404 for the end, so with a response_check the sensor doesn't defer, and without it the first
        # "pending" would do.
        mode="reschedule",
        poke_interval=5,
        timeout=3600,
    )
    download(wait.output)


with DAG("mapped_http", schedule=None):
    image.expand(data=[body(f"picture {number}") for number in range(int(os.environ["BENCH_PROMPTS"]))])
