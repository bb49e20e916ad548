"""A worker is killed with SIGKILL at every point where money could be lost; the API's books are the judge."""

from __future__ import annotations

import pytest

from tests.e2e.cases import Case, play
from tests.e2e.conftest import House

# Writes to the task state: in execute 1 intent (it is at the destination already), 2 submitted; then 1 stored
# in the resume method, or 3 on a worker that waits.
SAMPLE = [
    Case("between intent and POST", "deferred_fail", "failed", 0, die="execute after 1"),
    Case(
        "POST under way",
        "deferred_resubmit",
        "success",
        2,
        die="execute once charged",
        fault="submit:late=11*1",
    ),
    Case("id in one place", "deferred_fail", "success", 1, die="execute before 2"),
    Case("before the defer", "deferred_fail", "success", 1, die="execute after 2"),
    Case("after storing, before the record", "deferred_fail", "success", 1, die="resume before 1"),
    Case("answer lost", "waiting_fail", "failed", 1, fault="submit:lost*1"),
]


def matrix(way: str) -> list[Case]:
    """Every point, for a task that waits in the triggerer or on the worker."""
    settling = "resume" if way == "deferred" else "execute"
    first = 1 if way == "deferred" else 3
    fail, resubmit = f"{way}_fail", f"{way}_resubmit"
    return [
        Case("intent in one place", fail, "failed", 0, die="execute before 1"),
        Case("intent in one place", resubmit, "success", 1, die="execute before 1"),
        Case("between intent and POST", fail, "failed", 0, die="execute after 1"),
        Case("between intent and POST", resubmit, "success", 1, die="execute after 1"),
        Case("POST under way", fail, "failed", 1, die="execute once charged", fault="submit:late=11*1"),
        Case("POST under way", resubmit, "success", 2, die="execute once charged", fault="submit:late=11*1"),
        Case("id in one place", fail, "success", 1, die="execute before 2"),
        Case("id in one place", resubmit, "success", 1, die="execute before 2"),
        Case("after the record", fail, "success", 1, die="execute after 2"),
        Case("while storing", fail, "success", 1, die=f"{settling} once downloading", fault="file:drip=30*1"),
        Case("before the result's record", fail, "success", 1, die=f"{settling} before {first}"),
        Case("after the result's record", fail, "success", 1, die=f"{settling} after {first}"),
        Case("answer lost", fail, "failed", 1, fault="submit:lost*1"),
        Case("answer lost", resubmit, "success", 2, fault="submit:lost*1"),
        Case("connection cut, not accepted", fail, "failed", 0, fault="submit:close*1"),
        Case("connection cut, not accepted", resubmit, "success", 1, fault="submit:close*1"),
        Case("a proxy's page for an answer", fail, "failed", 0, fault="submit:html*1"),
        Case("an answer without an id", fail, "failed", 1, fault="submit:missing_id*1"),
        Case("failed and refunded once", fail, "success", 2, fault="generation:failed*1"),
        Case("image truncated once", fail, "success", 1, fault="file:truncated*1"),
        Case("image late", fail, "success", 1, fault="file:404*8"),
        Case("image refused", fail, "failed", 1, fault="file:redirect=http://10.0.0.7/a.png"),
        Case("id forgotten", fail, "failed", 1, fault="generation:forgotten"),
        Case("more than max_credits", f"{way}_limited", "failed", 2, fault="submit:lost"),
        Case("not in time, then picked up", f"{way}_impatient", "success", 1, fault="generation:takes=9"),
    ]


def test_nobody_pays_twice_wherever_a_worker_dies(house: House) -> None:
    wrong = play(house, SAMPLE)

    assert not wrong


@pytest.mark.soak
@pytest.mark.parametrize("way", ["deferred", "waiting"])
def test_every_crash_point_has_its_number_of_charges(house: House, way: str) -> None:
    wrong = play(house, matrix(way))

    assert not wrong
