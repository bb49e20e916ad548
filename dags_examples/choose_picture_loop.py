"""A person decides, as often as it takes: ``choose_picture.py`` as a Task Loop of Airflow 3.4.

Each iteration draws three candidates, of the run's prompt and then of the one that the reviewer typed, and
asks. It ends when one is published. The fifth form is the last one: who draws again there ends the run as
failed, and pays nothing more. On Airflow 3.3 this file has no DAG.

Each round pays for three pictures, five rounds for fifteen, and the form says how much a round is. Don't
clear a task of a loop: Airflow then runs it in all iterations. They find what they have paid for.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow import sdk
from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Param, dag, task, task_group
from airflow.sdk.exceptions import AirflowFailException

from airflow_gpt_image import review_body

PROMPT = "A hero image for an outdoor shop: a tent under the northern lights"
PUBLISH = ["Publish A", "Publish B", "Publish C"]
AGAIN = "Draw again"
ROUNDS = 5
BODY = """
{%- set last = loop.index + 1 == loop.max_iterations -%}
{%- set drawn = ti.xcom_pull('round.prompts')[0] -%}
{{ review_body(ti, 'round.picture', prompt=drawn, again=None if last else 'Draw again') }}
{%- if last %}

This is the last round. *Draw again* draws nothing more, and ends the run as failed.
{%- endif -%}
"""


@dag(
    description="Three candidates, drawn again until a person publishes one of them",
    schedule=None,
    params={"prompt": Param(PROMPT, type="string", minLength=1)},
    user_defined_macros={"review_body": review_body},
    tags=["gpt-image"],
)
def choose_picture_loop() -> None:
    def fill_in(context: Any) -> None:
        """Let the form's field begin with the prompt of this round."""
        context["task"].params["prompt"] = context["ti"].xcom_pull(task_ids="round.prompts")[0]

    @task_group(group_id="round")
    def ask() -> None:
        @task
        def prompts(*, loop: Any, params: dict[str, Any]) -> list[str]:
            """One for each candidate: the run's, then what the reviewer typed in the round before."""
            return [loop.previous["prompt"] if loop.index else params["prompt"]] * len(PUBLISH)

        @task.gpt_image(
            destination="{{ var.value.get('gpt_image_destination', '/tmp/gpt-image') }}/{{ run_id }}",
            aspect_ratio="16:9",
            retries=3,
            retry_delay=timedelta(seconds=30),
            map_index_template="{{ 'ABC'[ti.map_index] }}",
        )
        def picture(prompt: str) -> str:
            """A person's words, not rendered: ``{{`` in them stays."""
            return prompt

        @task
        def decide(answer: dict[str, Any], ti: Any = None) -> dict[str, Any]:
            """Return the prompt of the next round, or the path of the chosen picture."""
            [chosen] = answer["chosen_options"]
            if chosen == AGAIN:
                typed = answer["params_input"].get("prompt")
                return {"prompt": typed or ti.xcom_pull(task_ids="round.prompts")[0], "path": None}
            result = ti.xcom_pull(task_ids="round.picture", map_indexes=PUBLISH.index(chosen))
            if result is None:
                raise AirflowFailException(f"{chosen}: it has no picture.")
            return {"path": result["path"]}

        choose = HITLOperator(
            task_id="choose",
            subject="Which picture goes on the front page?",
            body=BODY,
            options=[*PUBLISH, AGAIN],
            params={"prompt": Param(PROMPT, type="string", minLength=1, title="Prompt for new ones")},
            pre_execute=fill_in,
            # It also asks when one of them failed, but not when all did.
            trigger_rule="all_done_min_one_success",
        )
        picture.expand(prompt=prompts()) >> choose
        decide(choose.output)

    def is_chosen(*, loop: Any) -> bool:
        return loop.result["path"] is not None

    @task
    def publish(ti: Any = None) -> str:
        """Your site; here it only says what it would show. From outside a loop, all its rounds are seen."""
        return ti.xcom_pull(task_ids="round.decide")[-1]["path"]

    ask.loop(max_iterations=ROUNDS, until=is_chosen) >> publish()


if hasattr(sdk, "LoopDecision"):  # Airflow 3.4 on
    choose_picture_loop()
