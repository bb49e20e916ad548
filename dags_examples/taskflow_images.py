"""A function says what to draw: one image for every product of a catalogue."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import dag, task


@dag(description="A function says what to draw", schedule=None, tags=["gpt-image"])
def taskflow_images():
    @task
    def catalogue():
        return [
            {"name": "teapot", "look": "red enamel, studio light"},
            {"name": "vase", "look": "ceramic, dried flowers", "banner": True},
        ]

    @task.gpt_image(
        destination="{{ var.value.get('gpt_image_destination', '/tmp/gpt-image') }}/{{ run_id }}",
        aspect_ratio="1:1",
        retries=3,
        retry_delay=timedelta(seconds=30),
        map_index_template="{{ product['name'] }}",
    )
    def picture(product):
        """What is returned is a prompt, or a request: fields that go before the decorator's."""
        prompt = f"A {product['name']} for our shop: {product['look']}"
        return {"prompt": prompt, "aspect_ratio": "21:9"} if product.get("banner") else prompt

    picture.expand(product=catalogue())


taskflow_images()
