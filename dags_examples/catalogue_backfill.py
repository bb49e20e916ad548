"""A picture for every article that a shop's nightly export brought, and for every night of the past year.

One run for each date, one task for each file, whatever its length. Set it going with Airflow's own backfill,
several dates at a time::

    airflow pools set gpt_image 4 "Batches at a time" --include-deferred
    airflow backfill create --dag-id catalogue_backfill --from-date 2026-01-01 --to-date 2026-01-31 \\
        --max-active-runs 8

The pool counts deferred tasks, too: so never more than four batches are under way, and the account's rate
limit is shared by four, however many runs there are. Each date has a destination of its own, for two tasks
can't work at one. With ``reuse="destination"`` a date that is run again, in whatever run, pays only for what
is missing.
"""

from __future__ import annotations

import csv
from datetime import timedelta

import pendulum
from airflow.sdk import ObjectStoragePath, dag, task

from airflow_gpt_image.operators.batch import GptImageBatchOperator

SHOP = "{{ var.value.get('gpt_image_destination', '/tmp/gpt-image') }}/shop"


@dag(
    description="Pictures for every night's export of a shop, one batch for each date",
    schedule="@daily",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=8,
    tags=["gpt-image"],
)
def catalogue_backfill() -> None:
    @task
    def export(path: str, ds: str) -> None:
        """Your shop's export; here three articles for each date."""
        file = ObjectStoragePath(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("w", newline="") as handle:
            writer = csv.writer(handle)
            writer.writerow(["sku", "prompt", "aspect_ratio"])
            for number, thing in enumerate(("teapot", "vase", "lamp"), 1):
                writer.writerow([f"{ds}-{number}", f"A {thing}, model of {ds}, on white", "1:1"])

    pictures = GptImageBatchOperator(
        task_id="pictures",
        requests=f"{SHOP}/exports/{{{{ ds }}}}.csv",
        destination=f"{SHOP}/pictures/{{{{ ds }}}}",
        # An export with a column image_urls may name photos in this folder, and no other object of yours.
        reference_roots=["s3://my_aws@photos/catalogue/"],
        reuse="destination",
        on_invalid="skip",
        check_balance=True,
        poll_interval=2,
        pool="gpt_image",
        retries=5,
        retry_delay=timedelta(minutes=2),
    )
    export(f"{SHOP}/exports/{{{{ ds }}}}.csv") >> pictures


catalogue_backfill()
