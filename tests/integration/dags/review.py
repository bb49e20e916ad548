"""The review form's text, as Airflow's own tasks give it what they know of the candidates."""

from __future__ import annotations

from airflow.sdk import DAG, task, task_group

from airflow_gpt_image import review_body

with DAG("review", schedule=None, default_args={"retries": 0}):

    @task.gpt_image(destination="{{ var.value.gpt_image_destination }}", poll_interval=0.1)
    def picture(product: str) -> str:
        return f"A {product}"

    @task(trigger_rule="all_done")
    def form(task_ids: list[str], ti=None) -> str:
        return review_body(ti, task_ids)

    @task_group
    def product(name: str) -> None:
        picture(name) >> form(["product.picture"])

    product.expand(name=["teapot", "vase"]) >> form.override(task_id="all")(["product.picture"])
