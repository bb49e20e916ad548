"""Airflow's task state store as a task instance sees it: JSON in, JSON out."""

from __future__ import annotations

import json
from typing import Any


class Store:
    """
    Reading what isn't there gives the default.

    ``replaced``: a retry or a clear gave the task instance a new id. Then writing fails, and reading answers
    as if nothing were there. ``unreachable``: the API server doesn't answer.
    """

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.retentions: dict[str, Any] = {}
        self.replaced = self.unreachable = False

    def get(self, key: str, default: Any = None) -> Any:
        if self.unreachable:
            raise ConnectionError("the API server does not answer")
        return default if self.replaced or key not in self.texts else json.loads(self.texts[key])

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        if value is None:
            raise ValueError("Cannot set value as None")
        if self.unreachable or self.replaced:
            raise RuntimeError("TASK_STORE_NOT_FOUND")
        self.texts[key], self.retentions[key] = json.dumps(value), retention
