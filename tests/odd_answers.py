"""Answers about a completed generation that are valid JSON, and odd."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.task_instance import in_a_database

_URLS = '"urls": [URL]'

ODD = {
    "half a surrogate pair": rf'"model": "\ud800", "output": {{"metadata": {{"\udfff": "\ud83d"}}, {_URLS}}}',
    "NUL": rf'"model": "a\u0000b", "output": {{"metadata": {{"\u0000": ["\u0000"]}}, {_URLS}}}',
    "no number": f'"completed_at": 1e999, "output": {{"metadata": {{"a": [-Infinity, NaN]}}, {_URLS}}}',
    "a long model": f'"model": "{"x" * 900_000}", "output": {{{_URLS}}}',
    "long numbers": f'"created_at": {"9" * 5000}, "output": {{"metadata": {{"a": {"9" * 5000}}}, {_URLS}}}',
    "depth": f'"output": {{"metadata": {"[" * 9000 + "]" * 9000}, {_URLS}}}',
    "Airflow's own names": f'"output": {{"metadata": {{"__id__": 1, "a": [{{"__classname__": "x"}}], '
    f'"b": {{"__type": "set", "__var": [1]}}, "c": {{"__version__": 1}}}}, {_URLS}}}',
    "milliseconds": f'"created_at": 1775383908000, "completed_at": -1, "output": {{{_URLS}}}',
    "texts for numbers": '"created_at": "1775383908", "completed_at": true, "output": {"urls": [URL, null]}',
    "an address alone": '"output": {"urls": URL}',
    "twice": f'"status": "pending", "status": "completed", "output": {{"urls": []}}, "output": {{{_URLS}}}',
}
"""What such an answer says; URL stands for the image's address."""


def answer_oddly(api: Any, how: str) -> str:
    """Let the emulated API answer oddly about the only generation there is; its id."""
    [charge] = api.books()["charges"]
    generation_id: str = charge["task_id"]
    url = json.dumps(f"{api.url}/files/images/{generation_id}.png")
    body = f'{{"id": "{generation_id}", "status": "completed", {ODD[how]}}}'.replace("URL", url)
    api.fault("get", "200", body=body, content_type="application/json")
    return generation_id


def assert_storable(folder: Path) -> None:
    """All documents in a folder could be kept in any database."""
    documents = [path.read_text() for path in folder.rglob("*.json")]
    documents += [line for path in folder.rglob("*.jsonl") for line in path.read_text().splitlines()]
    assert documents
    for document in documents:
        in_a_database(json.loads(document))
