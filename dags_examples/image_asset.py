"""An image is an asset: one DAG makes it, another one runs as soon as there is a new one, and knows where."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Asset, dag, task

from airflow_gpt_image.operators.gpt_image import GptImageGenerateOperator

hero_image = Asset("hero_image")

with DAG("hero_image", description="An image that is an asset", schedule=None, tags=["gpt-image"]):
    GptImageGenerateOperator(
        task_id="hero",
        prompt="A hero image for an outdoor shop: a tent under the northern lights",
        aspect_ratio="21:9",
        destination="{{ var.value.get('gpt_image_destination', '/tmp/gpt-image') }}",
        filename="hero/{slug}-{generation_id}",
        outlets=[hero_image],
        retries=3,
        retry_delay=timedelta(seconds=30),
    )


@dag(description="Runs when there is a new hero image", schedule=[hero_image], tags=["gpt-image"])
def publish_hero_image():
    @task
    def publish(triggering_asset_events=None):
        """Each event says what was made: its paths, how many, what they cost, and of which request."""
        events = triggering_asset_events[hero_image]
        return [{name: event.extra[name] for name in ("paths", "usd", "fingerprint")} for event in events]

    publish()


publish_hero_image()
