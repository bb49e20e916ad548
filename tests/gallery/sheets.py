"""Documents with many tiles, filtered and paged as the server does it."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta
from typing import Any

from tests.gallery.documents import FAILED, RUN, document, image, picture, tile

THINGS = {
    "TEA": "A red enamel teapot on a white background, studio light",
    "MUG": "A speckled mug beside a window, morning light",
    "VAS": "A ceramic vase with dried flowers, product photo",
    "LMP": "A linen table lamp on an oak shelf",
    "CHR": "A velvet dining chair, three-quarter view",
    "OIL": "A bottle of olive oil with a paper label",
    "BAG": "A canvas backpack on a bench, natural light, neutral wall, catalogue framing",
    "BOO": "Hiking boots on a mossy rock, morning fog",
    "CLK": "A wall clock over a kitchen counter",
    "PLT": "A house plant in a glazed pot",
}
REASONS = {
    "failed": "upstream_error: Generation failed after 3 tries.",
    "unknown": "Sent, no answer. It may be paid for.",
    "in_flight": "14 s so far. No worker slot is held.",
    "not_sent": "Not sent yet.",
}
PER_PAGE = 200


def _status(row: int) -> str:
    for status, rows in {
        "failed": row % 320 == 10,
        "unknown": row in (23, 9_000),
        "not_sent": row > 9_872,
        "in_flight": row > 9_676,
    }.items():
        if rows:
            return status
    return "done"


def _row(row: int) -> dict[str, Any]:
    name = list(THINGS)[(row - 1) % len(THINGS)]
    sku = f"{name}-{993 + 7 * row}-{('RED', 'BLU', 'OAK', 'SND')[(row - 1) % 4]}"
    status = _status(row)
    word = {
        "done": "$0.0235",
        "failed": "refunded",
        "unknown": "$0.0235 at stake",
        "in_flight": "in flight",
        "not_sent": "not sent",
    }[status]
    return tile(
        f"{row}-1",
        status=status,
        caption=sku,
        sub=f"row {row} · {word}",
        prompt=THINGS[name],
        reason=REASONS.get(status),
        image=image(row) if status == "done" else None,
        place=None,
    )


ROWS = [_row(row) for row in range(1, 10_001)]
CAPTIONS = ["sku", "season"]


def _paged(rows: list[dict[str, Any]], query: dict[str, str], captions: list[str]) -> dict[str, Any]:
    counted = Counter(row["status"] for row in rows)
    counts = {
        "all": len(rows),
        **{status: counted[status] for status in ("done", "in_flight", "failed", "unknown", "not_sent")},
    }
    text, status = query.get("text", "").casefold(), query.get("status")
    found = [
        row
        for row in rows
        if text in f"{row['caption']} {row['prompt']}".casefold() and status in (None, row["status"])
    ]
    if query.get("sort") == "status":
        found.sort(key=lambda row: row["status"] != "unknown")
    pages = max(1, -(-len(found) // PER_PAGE))
    page = min(max(1, int(query.get("page", "1"))), pages)
    first = (page - 1) * PER_PAGE
    shown = found[first : first + PER_PAGE]
    span = {
        "page": page,
        "pages": pages,
        "first": first + 1 if shown else 0,
        "last": first + len(shown),
        "total": len(found),
    }
    caption = query.get("caption", captions[0])
    return {
        "counts": counts,
        "tiles": shown,
        **span,
        "captions": captions,
        "caption": caption,
        "query": {**query, "page": page},
    }


def batch(query: dict[str, str], *, live: bool = True) -> dict[str, Any]:
    """Return a data set of 10,000 rows."""
    figures = [
        {"label": "Done", "value": "9,643", "note": "of 10,000"},
        {"label": "Paid", "value": "$231.26", "note": None},
        {"label": "Refunded", "value": "$2.91", "note": None},
        {"label": "At stake", "value": "$0.05", "note": None},
        {"label": "Left", "value": "5 s", "note": "at 38.9/s"},
    ]
    links = [
        {"label": name, "url": f"/gpt-image/file/shop/{name}"}
        for name in ("manifest.csv", "failures.jsonl", "contact_sheet.html")
    ]
    return document(
        "batch", "pictures", live=live, figures=figures, links=links, **_paged(ROWS, query, CAPTIONS)
    )


def tile_picture(key: str) -> dict[str, Any] | None:
    """Return the picture of a row, for the panel."""
    row = next((row for row in ROWS if row["key"] == key), None)
    if row is None:
        return None
    number = int(key.split("-")[0])
    failed = FAILED if row["status"] == "failed" else {}
    whole = picture(
        **{"images": [row["image"]] if row["image"] else [], "ratio": "1:1", "seconds": 18.4, **failed}
    )
    return whole | row | {"row": number, "variant": 1, "columns": {"sku": row["caption"], "season": "AW26"}}


def _mapped_tile(index: int) -> dict[str, Any]:
    prompt = list(THINGS.values())[index % len(THINGS)]
    status = {5: "failed", 16: "failed", 11: "in_flight"}.get(index, "done")
    word = {"failed": "refunded", "in_flight": "$0.0235 charged"}.get(
        status, f"$0.0235 · {10 + index * 7 % 23}.7 s"
    )
    reason = {
        "failed": "upstream_error: Generation failed. Refunded. Clear this map index to try again."
    }.get(status, REASONS.get(status))
    shown = image(index + 1) if status == "done" else None
    fields = {
        "status": status,
        "caption": prompt,
        "prompt": prompt,
        "sub": f"#{index} · {word}",
        "reason": reason,
        "image": shown,
    }
    return tile(str(index), **fields, place=f"task/shop_pictures/{RUN}/image/{index}")


MAPPED = [_mapped_tile(index) for index in range(24)]


def mapped(query: dict[str, str]) -> dict[str, Any]:
    """Return the sheet of a task with 24 map indexes."""
    switch = {
        "this": f"task/shop_pictures/{RUN}/image/3",
        "all": f"mapped/shop_pictures/{RUN}/image",
        "count": 24,
        "current": "all",
    }
    figures = [
        {"label": "Paid", "value": "$0.5170", "note": None},
        {"label": "Refunded", "value": "$0.0235", "note": None},
    ]
    return document(
        "sheet", "image", switch=switch, figures=figures, links=[], **_paged(MAPPED, query, ["prompt"])
    )


def _task(
    task_id: str, place: str, tiles: list[dict[str, Any]], counts: dict[str, int], usd: str
) -> dict[str, Any]:
    more = counts["all"] - len(tiles)
    return {
        "task_id": task_id,
        "place": place,
        "count": counts["all"],
        "indexes": counts["all"] if place.startswith("mapped/") else 0,
        "usd": usd,
        "counts": counts,
        "tiles": tiles,
        "more": more,
    }


def tasks() -> list[dict[str, Any]]:
    none = {"in_flight": 0, "failed": 0, "unknown": 0, "not_sent": 0}
    return [
        _task(
            "poster",
            f"task/shop_pictures/{RUN}/poster/-1",
            [tile("-1")],
            {"all": 1, "done": 1, **none},
            "0.0235",
        ),
        _task(
            "image",
            f"mapped/shop_pictures/{RUN}/image",
            MAPPED[:6],
            {"all": 24, "done": 21, **none},
            "0.5170",
        ),
    ]


def run(_query: dict[str, str]) -> dict[str, Any]:
    figures = [
        {"label": "Images", "value": "62", "note": "of 65"},
        {"label": "This run", "value": "$1.48", "note": None},
        {"label": "Refunded", "value": "$0.05", "note": None},
    ]
    return document("run", RUN, figures=figures, tasks=tasks())


def _run(number: int) -> dict[str, Any]:
    failed = number == 5
    day = date(2026, 11, 26) - timedelta(days=number)
    run_id = f"scheduled__{day.isoformat()}T06:00:00+00:00"
    usd, share = ("0", 0.0) if failed else ("0.0705", 1.0) if number == 8 else ("0.0235", 0.33)
    shown = None if failed else image(50 + number, 1536, 864)
    return {
        "run_id": run_id,
        "date": run_id[11:],
        "usd": usd,
        "images": 0 if failed else 1,
        "image": shown,
        "place": f"run/shop_pictures/{run_id}",
        "status": "failed" if failed else "done",
        "reason": REASONS["failed"] if failed else None,
        "share": share,
    }


def dag(query: dict[str, str]) -> dict[str, Any]:
    count = int(query.get("runs", 14))
    values = {
        f"Last {count} runs": "15 images",
        "Spent": "$0.3760",
        "Median run": "$0.0235",
        "Refunded": "$0.0235",
    }
    figures = [{"label": label, "value": value, "note": None} for label, value in values.items()]
    runs = [_run(number) for number in range(count)]
    chosen = next((one for one in runs if one["run_id"] == query.get("run")), runs[0])
    # A run that made one picture shows it large.
    shown = {"picture": picture()} if chosen is runs[0] else {"tasks": tasks()}
    return document(
        "dag",
        "shop_pictures",
        figures=figures,
        ranges=[14, 30, 90],
        runs=runs,
        chosen=chosen | shown,
        query={**query, "runs": count},
    )


def asset(_query: dict[str, str]) -> dict[str, Any]:
    events = [
        {
            "time": f"2026-11-{26 - number}T06:00:41+00:00",
            "dag_id": "shop_pictures",
            "run_id": RUN,
            "place": f"run/shop_pictures/{RUN}",
            "tiles": MAPPED[:3],
        }
        for number in range(3)
    ]
    return document("asset", "hero", newest=picture(), events=events)


def overview(query: dict[str, str]) -> dict[str, Any]:
    values = {
        "Images": "1,204",
        "Spent today": "$3.10",
        "Spent in 30 days": "$28.29",
        "Refunded": "$0.87",
        "Balance gpt_image_default": "$14.53",
    }
    figures = [{"label": label, "value": value, "note": None} for label, value in values.items()]
    names = ["hero_image", "product_images", "catalogue_backfill", "taskflow_images"]
    latest = [
        tile(
            str(number),
            caption=names[number % 4],
            sub=f"{number + 2} min ago · $0.0235",
            image=image(80 + number, *((1536, 864) if number % 3 == 0 else (1024, 1024))),
        )
        for number in range(16)
    ]
    days = [
        {"date": f"2026-11-{number:02}", "usd": f"{number * 7 % 10}.70", "share": number * 7 % 10 / 10}
        for number in range(1, 27)
    ]
    spent = [
        ("catalogue_backfill", 842, "19.79", 1.0),
        ("product_images", 288, "6.77", 0.34),
        ("hero_image", 44, "1.03", 0.05),
    ]
    by_dag = [
        {"name": name, "place": f"dag/{name}", "images": count, "usd": usd, "share": share}
        for name, count, usd, share in spent
    ]
    by_connection = [
        {"name": "gpt_image_default", "place": None, "images": 1_130, "usd": "26.56", "share": 1.0}
    ]
    return document(
        "overview",
        "Images",
        figures=figures,
        latest=latest,
        days=days,
        by_dag=by_dag,
        by_connection=by_connection,
        ranges=[7, 30, 90],
        query={"days": int(query.get("days", 30))},
    )
