"""The rows of the API's error table, and the one body every error has. Source: "Error Codes" in the API
document.

The messages of 402, of a missing ``model`` and of a failed generation are the document's; the others are
ours, as the document only describes them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final, NamedTuple


class Row(NamedTuple):
    """One row of the table, and what the emulator says when it has nothing more exact to say."""

    status: int
    type: str
    message: str


ROWS: Final[dict[str, Row]] = {
    "invalid_request": Row(400, "invalid_request_error", "Missing or invalid parameters."),
    "invalid_api_key": Row(401, "authentication_error", "API key is invalid, disabled, or deleted."),
    "insufficient_credits": Row(402, "billing_error", "Your credit balance is too low. Please top up."),
    "ip_not_allowed": Row(403, "permission_error", "Request IP is not in the key's allowlist."),
    "model_not_found": Row(404, "invalid_request_error", "Model does not exist or is inactive."),
    "task_not_found": Row(404, "invalid_request_error", "Task ID does not exist."),
    "rate_limit_exceeded": Row(429, "rate_limit_error", "Too many requests, please slow down."),
    "spend_limit_exceeded": Row(429, "billing_error", "Key spend limit reached."),
    "internal_error": Row(500, "api_error", "Unexpected server error."),
    "upstream_error": Row(503, "upstream_error", "Upstream AI provider returned an error."),
}


def error_body(code: str, message: str | None = None) -> bytes:
    """The JSON body of an error answer.

    :raises KeyError: when the code isn't in the table.
    """
    row = ROWS[code]
    return json.dumps({"error": {"code": code, "message": message or row.message, "type": row.type}}).encode()


class RefusalError(Exception):
    """A request that is answered with an error of the table.

    :param code: a code of the table.
    :param message: what to say; None says the row's own sentence.
    :param headers: further headers, such as ``retry-after``.
    """

    def __init__(
        self, code: str, message: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message or ROWS[code].message)
        self.code = code
        self.status = ROWS[code].status
        self.body = error_body(code, message)
        self.headers = dict(headers or {})
