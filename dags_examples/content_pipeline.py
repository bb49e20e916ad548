"""Pictures for tomorrow's articles, every evening: one task for all of them, then one for each picture.

The batch pays for each picture once, whatever happens to the run. What comes after it maps over the manifest.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pendulum
from airflow.sdk import Asset, dag, task

DESTINATION = "{{ var.value.get('gpt_image_destination', '/tmp/gpt-image') }}/articles/{{ run_id }}"


@dag(
    description="Pictures for tomorrow's articles: a batch, then a task for each picture",
    schedule="0 18 * * *",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    tags=["gpt-image"],
)
def content_pipeline() -> None:
    @task
    def articles() -> list[dict[str, str]]:
        """Your editorial system; the columns that are no request field come back in the manifest."""
        return [
            {"slug": "harvest", "title": "What the harvest brought", "prompt": "Crates of apples at dawn"},
            {"slug": "trains", "title": "Night trains are back", "prompt": "A night train in the mountains"},
            {"slug": "templates", "title": "On {{ braces }}", "prompt": "Two curly braces made of brass"},
        ]

    @task.gpt_image_batch(
        task_id="pictures",
        destination=DESTINATION,
        defaults={"aspect_ratio": "16:9"},
        variants=2,
        max_credits=100,
        max_failures=0.1,
        poll_interval=2,
        retries=3,
        retry_delay=timedelta(minutes=1),
        outlets=[Asset("article_pictures")],
    )
    def pictures(articles: list[dict[str, str]]) -> list[dict[str, str]]:
        """A prompt is data: one with braces in it is drawn as it stands."""
        return [article | {"prompt": f"{article['prompt']}, editorial photo"} for article in articles]

    @task
    def choices(result: dict[str, Any]) -> list[dict[str, Any]]:
        """For each article its pictures' paths; a row whose pictures failed isn't there."""
        from airflow_gpt_image.batch.manifest import read_manifest

        paths: dict[str, list[str]] = {}
        for line in read_manifest(result["manifest"]):
            if line["status"] == "stored":
                paths.setdefault(line["data"]["slug"], []).extend(line["paths"])
        return [{"slug": slug, "paths": found} for slug, found in paths.items()]

    @task(map_index_template="{{ choice['slug'] }}")
    def publish(choice: dict[str, Any]) -> str:
        """Your site; here it only says what it would show."""
        return f"{choice['slug']}: {len(choice['paths'])} pictures"

    publish.expand(choice=choices(pictures(articles())))


content_pipeline()
