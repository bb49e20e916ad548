"""A person decides: three candidates in Airflow's review form, and the chosen one is published.

The form shows the pictures side by side. *Publish A* publishes the first one; *Draw again* makes three new
ones of the prompt in the form's field, and asks once more. On Airflow 3.4 a Task Loop asks as often as it
takes: ``choose_picture_loop.py``.

Each round pays for three pictures, and the form says how much that is. A retry pays nothing again, nor does a
clear of ``choose``, which asks the question anew: in each round a prompt's pictures are paid for once.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Param, TaskGroup, dag, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_gpt_image import review_body

PROMPT = "A hero image for an outdoor shop: a tent under the northern lights"
PUBLISH = ["Publish A", "Publish B", "Publish C"]
AGAIN = "Draw again"
NONE = "None of them"


@dag(
    description="Three candidates; a person publishes one of them, or has others drawn",
    schedule=None,
    params={"prompt": Param(PROMPT, type="string", minLength=1)},
    user_defined_macros={"review_body": review_body},
    tags=["gpt-image"],
)
def choose_picture() -> None:
    @task
    def prompts(answer: dict[str, Any] | None = None, params: Any = None) -> list[str]:
        """One for each candidate: the run's, or what the reviewer typed."""
        typed = answer["params_input"].get("prompt") if answer else None
        return [typed or params["prompt"]] * len(PUBLISH)

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

    def fill_in(context: Any) -> None:
        """Let the form's field begin with the prompt of this run."""
        context["task"].params["prompt"] = context["params"]["prompt"]

    with TaskGroup("first"):
        candidates = picture.expand(prompt=prompts())
        choose = HITLOperator(
            task_id="choose",
            subject="Which picture goes on the front page?",
            body="{{ review_body(ti, 'first.picture', prompt=params.prompt) }}",
            options=[*PUBLISH, AGAIN],
            params={"prompt": Param(PROMPT, type="string", minLength=1, title="Prompt for new ones")},
            pre_execute=fill_in,
            # It also asks when one of them failed, but not when all did.
            trigger_rule="all_done_min_one_success",
        )
        candidates >> choose

    with TaskGroup("second"):
        changed = prompts(choose.output)
        new_candidates = picture.expand(prompt=changed)
        choose_anew = HITLOperator(
            task_id="choose",
            subject="Which of the new pictures goes on the front page?",
            body="{{ review_body(ti, 'second.picture', prompt=ti.xcom_pull('second.prompts')[0], again=None) }}",  # noqa: E501
            options=[*PUBLISH, NONE],
            trigger_rule="all_done_min_one_success",
        )
        new_candidates >> choose_anew

    @task.branch
    def decide(answer: dict[str, Any]) -> str:
        return "second.prompts" if AGAIN in answer["chosen_options"] else "publish"

    @task(trigger_rule="none_failed_min_one_success")
    def publish(first: dict[str, Any], second: Any, ti: Any = None) -> str:
        """
        Your site; here it only says what it would show.

        The first answer says which one counts: a second one may be left from before the first was cleared.
        """
        group, answer = ("second", second) if AGAIN in first["chosen_options"] else ("first", first)
        [chosen] = answer["chosen_options"]
        if chosen == NONE:
            raise AirflowSkipException("Nothing is published.")
        result = ti.xcom_pull(task_ids=f"{group}.picture", map_indexes=PUBLISH.index(chosen))
        if result is None:
            raise AirflowFailException(
                f"{chosen}: it has no picture. Clear {group}.choose, and choose another."
            )
        return result["path"]

    decide(choose.output) >> [changed, publish(choose.output, choose_anew.output)]


choose_picture()
