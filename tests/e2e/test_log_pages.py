"""The logs of tasks as a person sees them: in a real browser, 1500 pixels wide, nothing beyond the edge.

A picture of each is kept in ``test-artefacts/logs``, or where ``GPT_IMAGE_ARTEFACTS`` says.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser import browse, needs_browser
from tests.e2e.conftest import House

# With `make browser`.
pytestmark = [pytest.mark.one_database, pytest.mark.soak, pytest.mark.timeout(600), needs_browser]

PROJECT = Path(__file__).parents[2]
KEPT = Path(os.environ.get("GPT_IMAGE_ARTEFACTS", PROJECT / "test-artefacts")) / "logs"

# The texts of the log that end beyond its right edge.
CUT_OFF = """
(() => {
    const log = [...document.querySelectorAll('code')].find(e => e.innerText.includes('INFO'));
    const edge = log.getBoundingClientRect().right, texts = [];
    const walker = document.createTreeWalker(log, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const range = document.createRange();
        range.selectNodeContents(walker.currentNode);
        if ([...range.getClientRects()].some(box => box.right > edge)) {
            texts.push(walker.currentNode.textContent);
        }
    }
    return texts;
})()
"""
# Airflow's own: what it says of a trigger's event, and the frames of its code.
AIRFLOWS = ("TriggerEvent<", 'File "', "/airflow/sdk/", " in ")
# A link, which can be pressed wherever it is cut.
ADDRESS = "/plugin/gpt-image"

FINISHED = [
    "Submitted: 16:9, 1k, $0.0235 (generation ",
    "Done: 1 image, 1536 x 864, $0.0235, ",
    "-0.png",
    "Images: http",
]
WAITING = ["Submitted: 16:9, 1k, $0.0235", "no triggerer runs", "Waiting for 1 min ", "its status is 'p"]
FAILED = [
    "Submitted: 16:9, 1k, $0.0235",
    "GenerationFailedError: Missing or invalid parameters (invalid_request).",
    "failed, and was refunded.",
    "The same would fail again: change the prompt or the reference images.",
]
BATCH = [
    "40 rows, 40 images: 0 paid for already, 40 to pay for",
    "Row 8 has no image: GenerationFailedError: Missing or invalid parameters (invalid_request).",
    "Done: 39 stored (0 reused), 1 failed, 0 unknown, 0 not submitted; ",
    "/manifest.jsonl",
    "1 of 40 images are missing: 1 failed.",
    "/failures.jsonl",
    "max_failures",
    "Images: http",
]


@pytest.fixture(scope="module")
def runs(house: House, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[str, str]]]:
    """The ids of a DAG and of a run of it by what becomes of the run; all are under way at once."""
    house.emulator.fault("generation:takes=600;match=slow train")
    house.emulator.fault("generation:failed=invalid_request;match=famous film character")
    titles = [f"A teapot, number {number}" for number in range(40)]
    titles[7] = "A famous film character holding a teapot"
    file = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    rows = [{"sku": f"T-{number}", "title": title} for number, title in enumerate(titles)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    single = {
        "waiting": "A slow train through the Alps",
        "finished": "A lighthouse in a storm",
        "failed": "A famous film character holding a teapot",
    }
    started = {name: ("page_single", house.start("page_single", prompt)) for name, prompt in single.items()}
    started["batch"] = ("page_batch", house.start("page_batch", "", file=str(file)))
    yield started
    dag_id, run_id = started["waiting"]
    house.airflow.request("PATCH", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}", json={"state": "failed"})


@pytest.fixture(autouse=True)
def no_faults_left() -> None:
    """They are this module's, and hold for all of it."""


# The one that waits comes last: its first line of waiting comes after a minute.
@pytest.mark.parametrize(
    ("name", "task_id", "story"),
    [
        ("finished", "poster", FINISHED),
        ("failed", "poster", FAILED),
        ("batch", "pictures", BATCH),
        ("waiting", "poster", WAITING),
    ],
    ids=["finished", "failed", "batch", "waiting"],
)
def test_the_whole_story_of_a_task_is_seen_without_scrolling_sideways(house, runs, name, task_id, story):
    dag_id, run_id = runs[name]
    if name in ("finished", "failed", "batch"):
        house.finish(dag_id, run_id)
    KEPT.mkdir(parents=True, exist_ok=True)

    page_of_task = f"{house.airflow.url}/dags/{dag_id}/runs/{run_id}/tasks/{task_id}"
    with browse(page_of_task, width=1500, height=1200) as page:
        for text in story:
            page.until_text(text)
        page.screenshot(KEPT / f"{name}.png")
        text, cut_off = page.text(), page.run(CUT_OFF)

    assert [line for line in cut_off if not any(part in line for part in (*AIRFLOWS, ADDRESS))] == []
