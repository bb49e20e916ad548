"""Hold what goes over the wire as values: a call, the response to it, or why there is none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_gpt_image.api.text import redact_queries


@dataclass(frozen=True, slots=True)
class Call:
    """Describe one HTTP request to the API; ``path`` is below the base URL."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """Hold an HTTP response, with the key concealed.

    :param headers: their names in lower case.
    :param document: the body's JSON; None where it isn't a JSON object.
    :param page: the beginning of a body that isn't a JSON object, or is a large one, for messages.
    :param at: when it was read, in seconds since 1970.
    :param whole: False when something followed the document, or the response broke off after it.
    """

    status: int
    headers: Mapping[str, str]
    document: dict[str, Any] | None
    page: str
    at: float
    whole: bool = True

    @property
    def excerpt(self) -> str:
        """Return the body's beginning, for messages."""
        if self.page or self.document is None:
            return self.page
        # Made when it is asked for, as most responses are in no message.
        return redact_queries(json.dumps(self.document))[:200]


@dataclass(frozen=True)
class NoResponse:
    """Say why no whole response came.

    :param sent: False only when provably no byte of the request reached the API.
    :param at: when that was known, in seconds since 1970.
    :param where: whom was asked, for messages; empty: no matter.
    :param refused: whether nobody listens there.
    :param local: whether that is this machine.
    """

    sent: bool
    reason: str
    at: float
    where: str = ""
    refused: bool = False
    local: bool = False

    @property
    def api(self) -> str:
        """Return whom was asked, for messages."""
        return f"the API at {self.where}" if self.where else "the API"

    @property
    def remedy(self) -> str:
        """Return what to do."""
        if self.refused and self.local:
            return "Does the emulator run? Start it: python -m airflow_gpt_image.emulator"
        if self.refused:
            return "Nobody listens there: are the connection's Host and Port right?"
        return "That is the network, a proxy or the API itself, and may pass: try again."


Reply = Response | NoResponse
