"""The page behind Airflow's navigation: the latest pictures, and what was spent by day, Dag, connection."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from airflow.utils.session import create_session

from airflow_gpt_image.plugins.images.documents import airflow_rows, papers, spend
from airflow_gpt_image.plugins.images.documents.airflow_rows import TaskRow
from airflow_gpt_image.plugins.images.documents.amounts import NOTHING, dollars, price, total, totals
from airflow_gpt_image.plugins.images.documents.context import Context
from airflow_gpt_image.plugins.images.documents.places import RANGES, Place, Query
from airflow_gpt_image.plugins.images.documents.spend import MOST_INSTANCES, Spent
from airflow_gpt_image.plugins.images.documents.tiles import TaskTile, side_by_side, tiles_of

_LATEST: Final = 16
_MOST_NAMES: Final = 50
_NOT_KNOWN: Final = "Not known any more"

Counted = Sequence[tuple[TaskRow, Spent]]
NameOf = Callable[[TaskRow, Spent], str]


def build(place: Place, query: Query, context: Context) -> dict[str, Any] | None:
    """Return the overview of all Dags that who asks may read."""
    if place.key is not None:
        return None
    today = context.now.replace(hour=0, minute=0, second=0, microsecond=0)
    since = today - timedelta(days=query.days - 1)
    with create_session() as session:
        dag_ids = spend.find_dags(session, since) & context.readable_dags(context.user)
        rows = spend.find_ended(session, dag_ids, since)
        counted = list(zip(rows, spend.count(session, rows), strict=True))
        newest = [row for row, spent in counted if spent.images][:_LATEST]
        airflow_rows.load(session, newest)
    if not dag_ids:
        why = f"No GptImage task of a Dag that you may see has run in the last {query.days} days."
        return papers.empty("No images yet", why, "", "Images", context, query, ranges=list(RANGES))
    connections = _names(counted, _connections(counted), places=False)
    return papers.document(
        "overview",
        "Images",
        context,
        query,
        notices=_notices(rows),
        figures=[*_figures(counted, today, query.days), *_balances(connections, context)],
        latest=_latest(newest, context),
        days=_days(counted, since, query.days),
        by_dag=_names(counted, _dag_of, places=True),
        by_connection=connections,
        ranges=list(RANGES),
    )


def _figures(counted: Counted, today: datetime, days: int) -> list[dict[str, Any]]:
    spent = sum((each.usd for _, each in counted), NOTHING)
    spent_today = sum((each.usd for row, each in counted if row.ended and row.ended >= today), NOTHING)
    refunded = sum((each.refunded for _, each in counted), NOTHING)
    images = sum(each.images for _, each in counted)
    money = [("Spent today", spent_today), (f"Spent in {days} days", spent), ("Refunded", refunded)]
    return [papers.figure("Images", f"{images:,}"), *papers.figures_of_money(money)]


def _balances(connections: Sequence[dict[str, Any]], context: Context) -> list[dict[str, Any]]:
    """Return what is left of the accounts that most was spent from, as far as it can be read."""
    names = [each["name"] for each in connections if each["name"] != _NOT_KNOWN]
    left = context.balances_of(names)
    return [papers.figure(f"Balance {name}", dollars(total(usd))) for name, usd in left.items()]


def _latest(rows: Sequence[TaskRow], context: Context) -> list[dict[str, Any]]:
    made = tiles_of(rows, context)
    both = zip(made, side_by_side(made), strict=True)
    return [_tile(tile, shown[0], context) for tile, shown in both if shown]


def _tile(tile: TaskTile, shown: dict[str, Any], context: Context) -> dict[str, Any]:
    cost = dollars(price(tile.price) or "") if tile.price is not None else f"{tile.images:,} images"
    ago = "" if tile.row.ended is None else _ago((context.now - tile.row.ended).total_seconds())
    return shown | {
        "key": str(tile.row.id),
        "caption": tile.row.dag_id,
        "sub": " · ".join(filter(None, [ago, cost])),
        "place": tile.place.path,
        "time": shown["time"],
    }


def _ago(seconds: float) -> str:
    if seconds < 3_600:
        return f"{max(0, seconds) / 60:.0f} min ago"
    if seconds < 86_400:
        return f"{seconds / 3_600:.0f} h ago"
    return "yesterday" if seconds < 2 * 86_400 else f"{seconds / 86_400:.0f} days ago"


def _days(counted: Counted, since: datetime, days: int) -> list[dict[str, Any]]:
    spent: defaultdict[str, Decimal] = defaultdict(Decimal)
    for row, each in counted:
        if row.ended is not None:
            spent[row.ended.date().isoformat()] += each.usd
    dates = [(since + timedelta(days=day)).date().isoformat() for day in range(days)]
    most = max((spent[date] for date in dates), default=NOTHING)
    written = totals(spent[date] for date in dates)
    return [
        {"date": date, "usd": usd, "share": float(spent[date] / most) if most else 0.0}
        for date, usd in zip(dates, written, strict=True)
    ]


def _names(counted: Counted, name_of: NameOf, *, places: bool) -> list[dict[str, Any]]:
    spent: defaultdict[str, Decimal] = defaultdict(Decimal)
    images: Counter[str] = Counter()
    for row, each in counted:
        spent[name_of(row, each)] += each.usd
        images[name_of(row, each)] += each.images
    most = max(spent.values(), default=NOTHING)
    ordered = sorted(spent, key=lambda name: (-spent[name], name))[:_MOST_NAMES]
    return [
        {
            "name": name,
            "place": Place("dag", name).path if places else None,
            "images": images[name],
            "usd": total(spent[name]),
            "share": float(spent[name] / most) if most else 0.0,
        }
        for name in ordered
    ]


def _dag_of(row: TaskRow, each: Spent) -> str:
    return row.dag_id


def _connections(counted: Counted) -> NameOf:
    """Return what tells a task instance's connection; where Airflow has forgotten it, that of a later one."""
    latest: dict[tuple[str, str], str] = {}
    for row, each in reversed(counted):
        if each.connection is not None:
            latest[row.dag_id, row.task_id] = each.connection
    return lambda row, each: each.connection or latest.get((row.dag_id, row.task_id), _NOT_KNOWN)


def _notices(rows: Sequence[TaskRow]) -> list[dict[str, Any]]:
    if len(rows) < MOST_INSTANCES:
        return []
    return [papers.notice(f"Only the newest {MOST_INSTANCES:,} task instances are counted.")]
