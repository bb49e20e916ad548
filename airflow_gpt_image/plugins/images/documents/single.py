"""The page of a task instance that makes one image."""

from __future__ import annotations

from typing import Any, Final

from airflow_gpt_image.plugins.images.documents import foreign, papers
from airflow_gpt_image.plugins.images.documents.airflow_rows import TaskRow
from airflow_gpt_image.plugins.images.documents.amounts import dollars, price
from airflow_gpt_image.plugins.images.documents.context import Context
from airflow_gpt_image.plugins.images.documents.image_facts import ImageFacts, of_row
from airflow_gpt_image.plugins.images.documents.pictures import NOT_KEPT, picture
from airflow_gpt_image.plugins.images.documents.places import Query
from airflow_gpt_image.plugins.images.documents.stores import check_images

_NOT_RUN: Final = "The task has not run. Its pictures appear here while it runs."
_WAITS: Final = {"GptImageSensor": "The task waits for a picture that another asked for. It appears here."}
_ENDED_WITHOUT: Final[dict[str, str]] = {
    "skipped": "Airflow skipped this task.",
    "upstream_failed": "A task before this one failed, so this one did not run.",
    "removed": "This task is no longer in the Dag.",
}


def build(row: TaskRow, query: Query, context: Context, switch: dict[str, Any] | None) -> dict[str, Any]:
    """Return the document of a task instance that makes one image, or of one that makes none."""
    title = foreign.text(row.label, 250) or row.task_id
    if row.makes is None:
        operator = foreign.text(row.shown_operator, 100) or "another one"
        return papers.empty(
            "No images here",
            f"This tab shows what GptImage tasks make. This task's operator is {operator}.",
            "",
            title,
            context,
            query,
        )
    facts = of_row(row, context.now)
    if facts.status == "not_sent":
        return _not_yet(row, facts, title, query, context, switch)
    return papers.document(
        "single",
        title,
        context,
        query,
        live=row.is_live,
        switch=switch,
        notices=_notices(facts),
        picture=checked(picture(row, facts, context), context),
    )


def picture_of(row: TaskRow, context: Context) -> dict[str, Any]:
    """Return a task instance's picture alone, for a sheet's panel."""
    return checked(picture(row, of_row(row, context.now), context), context)


def checked(picture: dict[str, Any], context: Context) -> dict[str, Any]:
    """Return a picture whose images say so where their files are gone, or can't be read by this server."""
    images = check_images(picture["images"], context)
    return picture | {"images": images, "image": images[0] if images else None}


def _not_yet(
    row: TaskRow, facts: ImageFacts, title: str, query: Query, context: Context, switch: dict[str, Any] | None
) -> dict[str, Any]:
    why = _ENDED_WITHOUT.get(row.state or "")
    if why is None and row.is_live:
        tried = (facts.why or "") if facts.sent else ""
        why = tried or _WAITS.get(row.operator) or _NOT_RUN
    if why is None:
        why = "The task ended without a result that this page can read."
    do = "" if row.is_live or row.state == "removed" else "Clear the task to run it again."
    what = "No images yet" if row.is_live else "No images"
    return papers.empty(what, why, do, title, context, query, live=row.is_live, switch=switch)


def _notices(facts: ImageFacts) -> list[dict[str, Any]]:
    cost = price(facts.price)
    if facts.status == "done" and not facts.kept:
        again = "Fetching it again pays nothing." if facts.generation_id else ""
        do = f'Download it now, or set `destination="…"` on the task and clear it. {again}'.strip()
        return [papers.notice(NOT_KEPT, None, do)]
    if facts.status == "failed" and facts.sent and facts.paid:
        amount = dollars(price(facts.paid) or "")
        what = "The picture is paid for and not stored."
        return [
            papers.notice(
                what, f"Paid: {amount}.", "Clear the task: it is fetched again without a new charge."
            )
        ]
    if facts.status == "unknown" and cost:
        at = f"{facts.since:%H:%M:%S} UTC" if facts.since else "an unknown time"
        what = (
            f"This picture may or may not be paid for. The request was sent at {at} and no answer came back."
        )
        do = f"Nothing is sent again until you decide. Look in your account: is there a charge at {at}?"
        return [papers.notice(what, f"At stake: {dollars(cost)}", do)]
    return []
