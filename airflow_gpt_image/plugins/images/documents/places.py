"""Read what an address of the Images tab asks for: a place, and how it shall be shown. All is hostile."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, Self, get_args
from urllib.parse import quote

Kind = Literal["task", "mapped", "task-runs", "run", "dag", "asset", "all"]
Status = Literal["done", "in_flight", "failed", "unknown", "not_sent"]
Sort = Literal["row", "price", "seconds", "status"]

STATUSES: Final[tuple[Status, ...]] = get_args(Status)
SORTS: Final[tuple[Sort, ...]] = get_args(Sort)
RANGES: Final = (7, 30, 90)
"""Days that the overview can show."""

RUNS: Final = (14, 30, 90)
"""How many of its newest runs a Dag's page can show."""

# How many ids stand behind the kind.
_IDS: Final[dict[str, int]] = {
    "task": 4,
    "mapped": 3,
    "task-runs": 2,
    "run": 2,
    "dag": 1,
    "asset": 1,
    "all": 0,
}
_TILE: Final = "tile"
# Airflow's longest id has 250 characters.
_LONGEST_ID: Final = 1_000
_LONGEST_TEXT: Final = 200
_MOST_PAGES: Final = 1_000_000
_INDEX: Final = re.compile(r"(?:loop-(?P<loop>\d{1,9}))?-?(?P<map>\d{1,9})?")
_NOT_MAPPED: Final = frozenset({"-1", "{MAP_INDEX}"})


@dataclass(frozen=True)
class Place:
    """
    What is looked at.

    :param map_index: of a mapped task's instance; -1: it isn't mapped.
    :param loop_index: the iteration of a Task Loop (Airflow 3.4), from 0; None: the latest one, or none.
    :param key: of one tile of the place, whose picture alone is asked for.
    """

    kind: Kind
    dag_id: str = ""
    run_id: str = ""
    task_id: str = ""
    map_index: int = -1
    loop_index: int | None = None
    asset_id: int = 0
    key: str | None = None

    @classmethod
    def parse(cls, path: str) -> Self | None:
        """
        Read a place's path, percent-decoded, such as ``task/shop/manual__2026/poster/-1``.

        :return: None when there is no such place.
        """
        kind, *ids = path.strip("/").split("/")
        if kind not in _IDS or any(not 0 < len(part) <= _LONGEST_ID for part in ids):
            return None
        key = None
        if len(ids) == _IDS[kind] + 2 and ids[-2] == _TILE:
            key, ids = ids[-1], ids[:-2]
        if len(ids) != _IDS[kind]:
            return None
        given: dict[str, Any] = {"kind": kind, "key": key}
        if kind == "asset":
            if not ids[0].isascii() or not ids[0].isdigit() or len(ids[0]) > 18:
                return None
            return cls(**given, asset_id=int(ids[0]))
        names = ("dag_id", "task_id") if kind == "task-runs" else ("dag_id", "run_id", "task_id")
        given |= dict(zip(names, ids, strict=False))
        if kind != "task":
            return cls(**given)
        index = _INDEX.fullmatch(ids[3]) if ids[3].isascii() else None
        if ids[3] in _NOT_MAPPED:
            return cls(**given)
        if index is None or ids[3].startswith("-"):
            return None
        loop_index = None if index["loop"] is None else int(index["loop"])
        return cls(**given, map_index=int(index["map"] or -1), loop_index=loop_index)

    @property
    def path(self) -> str:
        """Return the place's path as it stands in an address, without its tile."""
        match self.kind:
            case "all":
                ids: list[str] = []
            case "asset":
                ids = [str(self.asset_id)]
            case "dag":
                ids = [self.dag_id]
            case "task-runs":
                ids = [self.dag_id, self.task_id]
            case "run":
                ids = [self.dag_id, self.run_id]
            case "mapped":
                ids = [self.dag_id, self.run_id, self.task_id]
            case "task":
                ids = [self.dag_id, self.run_id, self.task_id, self.index]
        return "/".join([self.kind, *(quote(part, safe=":+~@{}") for part in ids)])

    @property
    def index(self) -> str:
        """Return what tells the task instance from the others of its task: ``-1``, ``3``, ``loop-2``."""
        return index_text(self.map_index, self.loop_index)


def index_text(map_index: int, loop_index: int | None) -> str:
    """Return what tells a task instance from the others of its task and run, as addresses have it."""
    if loop_index is None:
        return str(map_index)
    return f"loop-{loop_index}" + (f"-{map_index}" if map_index >= 0 else "")


@dataclass(frozen=True)
class Query:
    """
    How a place shall be shown.

    :param page: from 1 on.
    :param status: show only what has it; None: all.
    :param text: show only what has it in its prompt or a column; empty: all.
    :param caption: the column that tiles are called by; empty: the page chooses.
    :param days: that the overview covers.
    :param run: of a Dag's page, the run that is shown below; empty: the latest one.
    :param runs: how many runs a Dag's page shows.
    """

    page: int = 1
    status: Status | None = None
    text: str = ""
    sort: Sort = "row"
    caption: str = ""
    days: int = 30
    run: str = ""
    runs: int = RUNS[0]

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> Self:
        """Read an address's query; what makes no sense there counts as not given."""
        status, sort = given.get("status"), given.get("sort")
        days, runs = (_number(given.get(name, "")) for name in ("days", "runs"))
        return cls(
            page=max(1, min(_number(given.get("page", "")), _MOST_PAGES)),
            status=next((known for known in STATUSES if known == status), None),
            text=given.get("text", "").strip()[:_LONGEST_TEXT],
            sort=next((known for known in SORTS if known == sort), "row"),
            caption=given.get("caption", "")[:_LONGEST_TEXT],
            days=days if days in RANGES else 30,
            run=given.get("run", "")[:_LONGEST_ID],
            runs=runs if runs in RUNS else RUNS[0],
        )

    def document(self) -> dict[str, Any]:
        """Return what was understood, for the page."""
        return asdict(self)


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else 0
