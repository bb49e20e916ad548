"""Make documents of any kind: what all have in common, and the honest ones with nothing in them."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from airflow_gpt_image.plugins.images.documents import foreign
from airflow_gpt_image.plugins.images.documents.amounts import dollars, totals
from airflow_gpt_image.plugins.images.documents.context import Context
from airflow_gpt_image.plugins.images.documents.places import Place, Query, Status


def document(
    kind: str,
    title: str,
    context: Context,
    query: Query,
    *,
    live: bool = False,
    switch: dict[str, Any] | None = None,
    notices: Iterable[dict[str, Any]] = (),
    **fields: Any,
) -> dict[str, Any]:
    """Return a document of a kind: what is common to all, and its own fields."""
    return {
        "version": 1,
        "kind": kind,
        "title": foreign.text(title, 500) or "Images",
        "live": live,
        "updated": foreign.iso(context.now),
        "notices": list(notices),
        "switch": switch,
        "query": query.document(),
        **fields,
    }


def empty(
    what: str, why: str, do: str, title: str, context: Context, query: Query, **fields: Any
) -> dict[str, Any]:
    """Return the document of a place where no picture is (yet)."""
    return document("empty", title, context, query, **fields, what=what, why=why, do=do)


def problem(
    what: str, why: str, do: str, title: str, context: Context, query: Query, **fields: Any
) -> dict[str, Any]:
    """Return the document of a place that can't be shown."""
    return document("problem", title, context, query, **fields, what=what, why=why, do=do)


def notice(what: str, money: str | None = None, do: str | None = None) -> dict[str, Any]:
    """Return what is said above a document's content: what happened, the money, what to do."""
    return {"what": what, "money": money, "do": do}


def figure(label: str, value: str, note: str | None = None) -> dict[str, Any]:
    """Return a number that stands above the content."""
    return {"label": label, "value": value, "note": note}


def figures_of_money(amounts: Iterable[tuple[str, Decimal]]) -> list[dict[str, Any]]:
    """Return sums that stand side by side."""
    named = list(amounts)
    written = totals(value for _, value in named)
    return [figure(label, dollars(text)) for (label, _), text in zip(named, written, strict=True)]


def counts(statuses: Iterable[Status]) -> dict[str, int]:
    """Return how many there are of each status, and of all."""
    found = {"all": 0, "done": 0, "in_flight": 0, "failed": 0, "unknown": 0, "not_sent": 0}
    for status in statuses:
        found[status] += 1
        found["all"] += 1
    return found


def switch(this: Place, everything: Place, count: int, current: str) -> dict[str, Any]:
    """Return the switch between one task instance's page and its task's sheet."""
    return {"this": this.path, "all": everything.path, "count": count, "current": current}
