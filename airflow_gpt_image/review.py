"""Write the body of Airflow's review form: candidates side by side, and what drawing them again costs.

A DAG file imports it, so what it needs is imported when it is called.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from airflow_gpt_image.tasks.pages import PREFIX, instance_index, loop_index_of

if TYPE_CHECKING:
    from airflow.sdk.types import RuntimeTaskInstanceProtocol

_MOST_CANDIDATES: Final = 26
_COLUMNS: Final = 3  # the form draws a picture 300 pixels wide, and is as wide as three of them
_COUNTS: Final = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

# What begins anything but text inside a paragraph or a table's cell.
_MARKS: Final = re.compile(r"[\\`*_\[\]<>&~]")
# Airflow's form makes links of bare addresses, escaped or not; a space without width keeps them text.
_BARE_ADDRESS: Final = re.compile(r"(https?:(?=//)|www(?=\.)|@)", re.IGNORECASE)
_ZERO_WIDTH_SPACE: Final = "\u200b"


def review_body(
    ti: RuntimeTaskInstanceProtocol,
    task_ids: str | Sequence[str],
    *,
    prompt: str | None = None,
    captions: Sequence[str] = (),
    again: str | None = "Draw again",
) -> str:
    """
    Return Markdown for the ``body`` of Airflow's review form: the pictures that tasks of this run made.

    Each candidate is a column: a letter (``A``, ``B``, … in the order of the tasks and of their map
    indexes), its picture, which opens in full size, and its pixels and price. A candidate keeps its letter
    when it failed, and its column says so. Below stands what they cost, and what drawing again pays.

    Airflow's API server serves the pictures to whoever may read the Dag, from below its ``[gpt_image]
    gallery_roots``. So the candidates need a ``destination`` there.

    Give it to the Dag as ``user_defined_macros={"review_body": review_body}``, and to the operator as
    ``body="{{ review_body(ti, 'picture') }}"``; or call it in a ``@task`` and let that one's output be the
    ``body``. The form has to come after its candidates; with ``trigger_rule="all_done"`` also when one of
    them failed.

    :param ti: the task instance that asks, from Airflow's context.
    :param task_ids: the task, or the tasks, that made the candidates: ``GptImageGenerateOperator``,
        ``@task.gpt_image`` or ``GptImageSensor``, mapped or not. In a task group the id begins with the
        group's. Of a task in the same mapped task group only this index's is a candidate. At most 26 are
        shown.
    :param prompt: what was drawn, to be shown above; whatever it holds stays text. Cut at 500 characters.
    :param captions: a text for each candidate, in their order, to be shown in its column, such as its own
        prompt; likewise.
    :param again: the words that begin the sentence on what new ones cost, as the form's option is called;
        None: there is none.
    :raises InvalidRequestError: when one of the tasks makes a data set: its result has no picture.
    """
    names = [task_ids] if isinstance(task_ids, str) else list(task_ids)
    instances = [instance for name in names for instance in _instances(ti, name)]
    shown = [_candidate(ti, *instance) for instance in instances[:_MOST_CANDIDATES]]
    blocks = [] if prompt is None else [f"Prompt: {_as_text(prompt)}"]
    starts = range(0, len(shown), _COLUMNS)
    blocks += [_table(shown, captions, range(len(shown))[start : start + _COLUMNS]) for start in starts]
    if len(instances) > len(shown):
        blocks.append(f"{len(shown)} of {len(instances):,} candidates are shown.")
    if not instances:
        blocks.append("There is no candidate: none of the tasks that make them has begun.")
    else:
        blocks.append(_costs(shown, len(instances), again))
    return "\n\n".join(blocks)


@dataclass(frozen=True)
class _Candidate:
    """
    Hold what the form says of one task instance.

    :param addresses: of its pictures, relative to Airflow's own.
    :param reason: why there is no picture, where there is none.
    :param facts: its pixels and its price, as far as they are known.
    :param price: of its generation in US dollars; None: its result doesn't say.
    :param paid: what is paid for it, net of refunds; None: that isn't known.
    """

    addresses: Sequence[str]
    reason: str
    facts: str
    price: Decimal | None
    paid: Decimal | None


def _instances(ti: Any, task_id: str) -> Iterator[tuple[str, int, str | None]]:
    """Yield the task's id, map index and state for each of its instances in this run, in their order."""
    # Asked for one task at a time: "a_1" would be the task of that name as well as an index of "a".
    states = ti.get_task_states(dag_id=ti.dag_id, task_ids=[task_id], run_ids=[ti.run_id])
    by_index = {
        -1 if name == task_id else int(name.removeprefix(f"{task_id}_")): state
        for name, state in states.get(ti.run_id, {}).items()
    }
    own = _is_expanded_with(ti, task_id)
    for map_index in sorted(by_index):
        if not own or map_index == ti.map_index:
            yield task_id, map_index, by_index[map_index]


def _is_expanded_with(ti: Any, task_id: str) -> bool:
    """Return whether a candidate is in the same mapped task group as the task that asks."""
    groups = [group.group_id for group in ti.task.iter_mapped_task_groups()]
    return any(task_id.startswith(f"{group}.") for group in groups)


def _candidate(ti: Any, task_id: str, map_index: int, state: str | None) -> _Candidate:
    """Read what a task instance came to."""
    loop_index = _loop_index(ti, task_id)
    # Of a task that was cleared, and skipped since, Airflow still has the result of before. In a loop it
    # tells the latest iteration's state, which may be another's than this result.
    counts = state == "success" or loop_index is not None
    result = ti.xcom_pull(task_ids=task_id, map_indexes=map_index) if counts else None
    if result is None:
        return _without_result(state, ti.xcom_pull(task_ids=task_id, map_indexes=map_index, key="spent"))
    _refuse_data_set(result, task_id)
    names = (ti.dag_id, ti.run_id, task_id, instance_index(map_index, loop_index))
    return _of_result(result, f"{PREFIX}/result/{'/'.join(quote(name, safe='') for name in names)}")


def _loop_index(ti: Any, task_id: str) -> int | None:
    """
    Return which iteration of a Task Loop (Airflow 3.4) a candidate is of.

    None for a task that isn't beside the one that asks: of such a one the latest iteration is shown.
    """
    beside = ti.task.task_group is not None and task_id.startswith(f"{ti.task.task_group.group_id}.")
    return loop_index_of(ti) if beside else None


def _refuse_data_set(result: object, task_id: str) -> None:
    """Refuse the result of a batch: it has a count of images, and none of them to be shown."""
    if isinstance(result, Mapping) and "rows" in result and isinstance(result.get("images"), int):
        from airflow_gpt_image.errors import InvalidRequestError

        raise InvalidRequestError(
            f"review_body: the task {task_id!r} makes a data set, whose images aren't in its result.\n"
            "A candidate is a task instance that made one picture.\n"
            "Map GptImageGenerateOperator over the prompts. A data set is looked at in its task's Images tab."
        )


def _without_result(state: str | None, spent: object) -> _Candidate:
    """Say why a task has no picture. A try that failed tells what the task has spent."""
    paid = _dollars(spent.get("usd")) if isinstance(spent, Mapping) else None
    cost = "" if paid is None else f" It has spent {_sum(paid)}."
    if state in ("failed", "upstream_failed"):
        return _Candidate((), f"No picture: the task failed.{cost}", "", None, paid)
    if state in ("skipped", "removed"):
        return _Candidate((), "No picture: the task was skipped.", "", None, Decimal(0))
    if state == "success":
        return _Candidate((), "No picture: the task returned none.", "", None, paid)
    return _Candidate((), f"No picture yet: the task has not ended.{cost}", "", None, paid)


def _of_result(result: object, address: str) -> _Candidate:
    """Read a task's result, which is whatever its DAG's author let it return."""
    fields = result if isinstance(result, Mapping) else {}
    listed = fields.get("images")
    images = [
        (number, image)
        for number, image in enumerate(listed if isinstance(listed, list) else [])
        if isinstance(image, Mapping)
    ]
    stored = [f"{address}/{number}" for number, image in images if image.get("path")]
    reason = "No picture: the task's result has none."
    if images:
        reason = "Not kept. This picture is only at the API, which does not keep it for ever."
    price = _dollars(fields.get("usd"))
    facts = [*dict.fromkeys(_pixels(image) for _, image in images), "" if price is None else f"${price:.4f}"]
    return _Candidate(stored, reason, " · ".join(filter(None, facts)), price, price)


def _table(candidates: Sequence[_Candidate], captions: Sequence[str], numbers: range) -> str:
    """Draw some of the candidates side by side."""
    rows = [[_letter(number) for number in numbers], [":---" for _ in numbers]]
    rows.append([_pictures(candidates[number], _letter(number)) for number in numbers])
    if captions:
        rows.append([_as_text(captions[number]) if number < len(captions) else "" for number in numbers])
    rows.append([candidates[number].facts for number in numbers])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def _pictures(candidate: _Candidate, letter: str) -> str:
    """Draw a candidate's pictures, each a link to itself in full size."""
    pictures = [
        f"[![Picture {letter}]({address}?size=512)]({address}?size=full)" for address in candidate.addresses
    ]
    return " ".join(pictures) or candidate.reason


def _letter(number: int) -> str:
    return chr(ord("A") + number)


def _costs(shown: Sequence[_Candidate], count: int, again: str | None) -> str:
    """Say what was paid for the candidates, and what as many new ones will cost."""
    paid = [candidate.paid for candidate in shown if candidate.paid is not None]
    sentences = [f"These cost {_sum(sum(paid, Decimal(0)))}."] if len(paid) == count else []
    if again is not None:
        new = f"{_COUNTS[count] if count < len(_COUNTS) else f'{count:,}'} new one{'' if count == 1 else 's'}"
        known = [candidate.price for candidate in shown if candidate.price is not None]
        if known:
            price = sum(known, Decimal(0)) + max(known) * (count - len(known))
            sentences.append(f"{_as_text(again)} pays {_sum(price)} for {new}.")
        else:
            sentences.append(f"{_as_text(again)} pays for {new}; no result says what one costs.")
    return " ".join(sentences)


def _pixels(image: Mapping[str, Any]) -> str:
    sides = [image.get("width"), image.get("height")]
    known = all(
        isinstance(side, int) and not isinstance(side, bool) and 0 < side < 1_000_000 for side in sides
    )
    return f"{sides[0]} × {sides[1]}" if known else ""


def _dollars(value: object) -> Decimal | None:
    """Return an amount of money out of a result; None for anything that is none."""
    try:
        amount = Decimal(value) if isinstance(value, str) and len(value) < 40 else None
    except InvalidOperation:
        return None
    return amount if amount is not None and amount.is_finite() and 0 <= amount < 1_000_000_000 else None


def _sum(amount: Decimal) -> str:
    return f"${amount:,.2f}" if amount >= 1 or not amount else f"${amount:.4f}"


def _as_text(value: object) -> str:
    """Return a foreign text so that Markdown draws it as it stands, on one line."""
    from airflow_gpt_image.api.text import single_line

    line = _BARE_ADDRESS.sub(rf"\1{_ZERO_WIDTH_SPACE}", single_line(value) or "")
    # A table's cells are told apart before escapes are read, so a bar has to be spelt.
    return _MARKS.sub(r"\\\g<0>", line).replace("|", "&#124;")
