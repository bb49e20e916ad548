"""A picture for every product: one mapped task each, and a summary of what they cost.

Tasks that wait are deferred: a thousand of them hold no worker slot. What ``@task.gpt_image`` returns is not
rendered, so ``{{ … }}`` in somebody else's product stays what it is. Airflow would render rows that are put
into ``expand_kwargs`` of the operator.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

from airflow.sdk import dag, task

PRODUCTS = [
    {"prompt": "A red enamel teapot on a white background, studio light", "aspect_ratio": "1:1"},
    {"prompt": "Hiking boots on a mossy rock, morning fog", "aspect_ratio": "3:2"},
    {"prompt": "A folding bicycle in front of a blue wall", "aspect_ratio": "4:3"},
    {"prompt": "A banner of autumn leaves for a shop's front page", "aspect_ratio": "21:9"},
    {"prompt": "A tall poster of a lighthouse in a storm", "aspect_ratio": "864x1536"},
    {"prompt": "A ceramic vase with dried flowers, product photo", "aspect_ratio": "2:3", "resolution": "2k"},
]


@dag(description="A picture for every product, one mapped task each", schedule=None, tags=["gpt-image"])
def product_images() -> None:
    @task
    def products() -> list[dict[str, str]]:
        """Your shop's database."""
        return PRODUCTS

    @task.gpt_image(
        destination="{{ var.value.get('gpt_image_destination', '/tmp/gpt-image') }}/{{ run_id }}",
        poll_interval=2,
        timeout=600,
        retries=3,
        retry_delay=timedelta(seconds=5),
        map_index_template="{{ product['prompt'][:60] }}",
    )
    def image(product: dict[str, str]) -> dict[str, str]:
        return product

    @task
    def summary(results: list[dict[str, Any]]) -> dict[str, Any]:
        paths = [image["path"] for result in results for image in result["images"]]
        return {"images": len(paths), "paths": paths, "usd": str(sum(Decimal(r["usd"]) for r in results))}

    summary(image.expand(product=products()))


product_images()
