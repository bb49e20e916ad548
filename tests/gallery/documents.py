"""Documents of every kind, as the server of the Images tab makes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

RUN = "scheduled__2026-11-26T06:00:00+00:00"
PROMPT = (
    "A hero image for an outdoor shop: a tent under the northern lights, long exposure, "
    "warm light inside the tent"
)
ID = "1117c0de-5f0a-4c8e-9b1d-2f6a7c31d882"
PATH = f"/data/images/hero/tent-under-the-northern-lights-{ID}.png"


def now(**before: float) -> str:
    return (datetime.now(UTC) - timedelta(**before)).isoformat(timespec="seconds")


def image(seed: int, width: int = 1024, height: int = 1024, **other: Any) -> dict[str, Any]:
    address = f"/gpt-image/image/shop/{seed}x{width}x{height}"
    return {
        "thumb": f"{address}?size=256",
        "thumb2": f"{address}?size=512",
        "stage": f"{address}?size=1024",
        "full": f"{address}?size=full",
        "download": f"{address}?size=full&download=1",
        "width": width,
        "height": height,
        "bytes": 1_234_567,
        "path": PATH,
        "problem": None,
        **other,
    }


def unread(problem: str) -> dict[str, Any]:
    """Return an image that the server can't read."""
    none = dict.fromkeys(("thumb", "thumb2", "stage", "full", "download"))
    return (
        image(1)
        | none
        | {"path": "s3://my_aws@shop/pictures/2026-11-26/items/BAG-1042-OAK-1.png", "problem": problem}
    )


def document(kind: str, title: str, **fields: Any) -> dict[str, Any]:
    common = {
        "version": 1,
        "kind": kind,
        "title": title,
        "live": False,
        "updated": now(),
        "notices": [],
        "switch": None,
    }
    return {**common, "query": {}, **fields}


def tile(key: str, **fields: Any) -> dict[str, Any]:
    return {
        "key": key,
        "status": "done",
        "caption": PROMPT,
        "sub": "$0.0235 · 16.2 s",
        "prompt": PROMPT,
        "reason": None,
        "money": None,
        "image": image(1, 1536, 864),
        "place": f"task/shop_pictures/{RUN}/poster/-1",
        "time": "2026-11-26T18:12:09+00:00",
        **fields,
    }


def picture(**fields: Any) -> dict[str, Any]:
    """Return a picture with all that is known of it."""
    images = fields.pop("images", [image(1, 1536, 864)])
    return {
        **tile("-1", image=images[0] if images else None),
        "images": images,
        "ratio": "16:9",
        "tier": "1k",
        "price": "0.0235",
        "credits": "4.7",
        "paid": "0.0235",
        "refunded": False,
        "reused": False,
        "kept": True,
        "seconds": 16.2,
        "since": None,
        "generation_id": ID,
        "code": None,
        "message": None,
        "connection": "gpt_image_default",
        "columns": {},
        "row": None,
        "variant": None,
        "map_index": None,
        "deferred": True,
        "tries": {"number": 2, "most": 4},
        "outlives_clear": True,
        "deciding": [],
        "spent": "0.00",
        "balance": None,
        **fields,
    }


DECIDING = [
    {
        "title": "No charge, or paying twice is fine",
        "text": "Draw it again. This may pay twice.\n"
        '`on_unknown_submit="resubmit"`\nSet it on the task, then clear the task.',
    },
    {
        "title": "Yes, and I know its id",
        "text": "Fetch what you paid for. This pays nothing.\n"
        '`GptImageSensor(generation_id="…")`\nGive it the same `destination`.',
    },
]
FAILED = {
    "status": "failed",
    "images": [],
    "code": "upstream_error",
    "message": "Generation failed",
    "refunded": True,
    "paid": "0.0000",
    "seconds": 9.8,
}
NOT_STORED = {
    "refunded": False,
    "paid": "0.0235",
    "spent": "0.0235",
    "code": None,
    "message": "The disk is full",
}
NOT_SENT = {"refunded": False, "code": None, "message": "aspect_ratio must be one of 1:1, 16:9, 9:16"}
UNREAD = "This server can't read s3://my_aws@shop. The pictures are safe: only this page can't show them."


def singles() -> dict[str, dict[str, Any]]:
    """Return a document for every state of one picture."""
    pictures = {
        "done": picture(),
        "waiting": picture(status="in_flight", images=[], seconds=None, since=now(seconds=14)),
        "failed": picture(**FAILED),
        "not_stored": picture(**{**FAILED, **NOT_STORED}),
        "not_sent": picture(**{**FAILED, **NOT_SENT}),
        "unknown": picture(
            status="unknown",
            images=[],
            since="2026-11-26T18:09:31+00:00",
            message="ReadTimeout: no answer within 60 s",
            deciding=DECIDING,
            generation_id=None,
        ),
        "not_kept": picture(kept=False, images=[image(1, 1536, 864, path=None)]),
        "several": picture(images=[image(seed, 1536, 864) for seed in (1, 2, 3, 4)], reused=True),
        "square": picture(images=[image(5)], ratio="1:1"),
        "tall": picture(images=[image(6, 864, 1536)], ratio="9:16"),
        "unread": picture(images=[unread(UNREAD)]),
        "gone": picture(images=[image(404, 1536, 864)]),
    }
    return {
        f"task/shop_pictures/{RUN}/{name}/-1": document("single", name, picture=one)
        for name, one in pictures.items()
    }


def papers() -> dict[str, dict[str, Any]]:
    """Return what is shown where there is nothing to show."""
    return {
        f"task/shop_pictures/{RUN}/foreign/-1": document(
            "empty",
            "foreign",
            what="No images here",
            why="This tab shows what GptImage tasks make. This task's operator is BashOperator.",
            do="",
        ),
        f"task/shop_pictures/{RUN}/not_yet/-1": document(
            "empty",
            "not_yet",
            what="No images yet",
            why="The task has not run. Its pictures appear here while it runs.",
            do="",
            live=True,
        ),
        "dag/forbidden": document(
            "problem",
            "forbidden",
            what="You may not see this Dag",
            why="Ask for permission to read **hero_image**.",
            do=None,
        ),
        "dag/outside": document(
            "problem",
            "outside",
            what="Outside the gallery roots",
            why="This server shows only what is under `[gpt_image] gallery_roots`. "
            "Ask an administrator to add this folder.",
            do="`gallery_roots = s3://my_aws@shop/pictures/2026-11-26/items`",
        ),
    }
