"""``@task.gpt_image`` among other tasks: mapped, overridden, retried, on either path."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, get_current_context, task

with DAG("decorated", schedule=None, default_args={"retries": 0}):

    @task
    def signs():
        return ["A sign: {{ ds }}", "A sign: {% raw %}"]

    @task.gpt_image(destination="{{ var.value.gpt_image_destination }}", map_index_template="{{ label }}")
    def draw(sign, look):
        get_current_context()["label"] = sign.removeprefix("A sign: ")
        return f"{sign}, {look}"

    @task.gpt_image(retries=1, retry_delay=timedelta(seconds=1), deferrable=False, poll_interval=0.1)
    def stubborn(day, ti):
        if ti.try_number == 1:
            raise ValueError("a bad start")
        return f"A calendar of {day}"

    @task.gpt_image(deferrable=False, poll_interval=0.1)
    def edit(picture) -> dict:
        return {"image_urls": [picture["images"][0]["url"]], "aspect_ratio": "4:5"}

    @task.gpt_image(multiple_outputs=True)
    def poster():
        return "A poster"

    @task
    def price(usd):
        return {"usd": usd}

    draw.partial(look="enamel").expand(sign=signs())
    edit(stubborn("{{ ds }}"))
    price(poster.override(task_id="wide", aspect_ratio="16:9")()["usd"])
