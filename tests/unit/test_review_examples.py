"""The forms of the examples: what the last one of the loop says."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
from jinja2 import Environment

from airflow_gpt_image import review_body

EXAMPLES = Path(__file__).parents[2] / "dags_examples"
RESULT = {"images": [{"path": "/data/a.png", "width": 1536, "height": 864}], "usd": "0.0235"}
PROMPT = "A tent {{ 1 + 1 }}"


def form_of_round(index):
    loop = SimpleNamespace(index=index, max_iterations=5)
    ti = SimpleNamespace(
        dag_id="choose_picture_loop",
        run_id="r1",
        map_index=-1,
        task=SimpleNamespace(
            task_group=SimpleNamespace(group_id="round"), iter_mapped_task_groups=lambda: iter(())
        ),
        get_task_states=lambda dag_id, task_ids, run_ids: {
            "r1": {f"round.picture_{i}": "success" for i in "012"}
        },
        get_template_context=lambda: {"loop": loop},
        xcom_pull=lambda task_ids, **given: [PROMPT] * 3 if task_ids == "round.prompts" else RESULT,
    )
    template = runpy.run_path(str(EXAMPLES / "choose_picture_loop.py"))["BODY"]
    return Environment().from_string(template).render(loop=loop, ti=ti, review_body=review_body)


@pytest.mark.parametrize("index", [0, 3])
def test_each_form_of_the_loop_tells_what_another_round_costs(index):
    body = form_of_round(index)

    assert body.startswith("Prompt: A tent {{ 1 + 1 }}\n\n| A | B | C |\n| :--- | :--- | :--- |\n")
    assert f"round.picture/loop-{index}-2/0?size=512" in body
    assert body.endswith("\n\nThese cost $0.0705. Draw again pays $0.0705 for three new ones.")


def test_the_last_form_of_the_loop_says_that_nothing_more_is_drawn():
    assert form_of_round(4).endswith(
        "\n\nThese cost $0.0705.\n\n"
        "This is the last round. *Draw again* draws nothing more, and ends the run as failed."
    )
