"""Why something isn't shown: a status, and the reason in people's words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Refusal:
    """
    :param status: of HTTP.
    :param what: happened, in a few words.
    :param why: in a sentence or two.
    :param do: what somebody can do about it; empty: nothing.
    """

    status: int
    what: str
    why: str
    do: str = ""

    def __str__(self) -> str:
        return " ".join(part for part in (f"{self.what}.", self.why, self.do) if part)


class RefusedError(Exception):
    """A request is answered with a reason instead of what it asked for."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


NOT_SIGNED_IN: Final = Refusal(
    401, "Nobody is logged in", "These pages are for people who may see the Dag.", "Log in to Airflow."
)
BAD_SIGN_IN: Final = Refusal(403, "This login is not valid", "Airflow doesn't accept it.", "Log in again.")
MAY_NOT_READ_ASSET: Final = Refusal(403, "You may not see this asset", "Ask for permission to read assets.")
NO_RESULT: Final = Refusal(
    404, "No picture here yet", "The task has no such image in its result, or the image is not stored."
)
NO_PLACE: Final = Refusal(404, "Nothing is here", "This address leads to no page of the Images tab.")
NO_FILE: Final = Refusal(404, "Nothing is here", "This address is not one that this server has given out.")
GONE: Final = Refusal(404, "The file is gone", "It was stored, and is not there any more.")
NO_PICTURE: Final = Refusal(
    415, "Not a picture", "The file isn't a PNG, JPEG or WebP by its own bytes, so it isn't shown here."
)
BROKEN: Final = Refusal(
    415, "Not a whole picture", "The file begins like one and can't be read to its end.", "Download it."
)
BUSY: Final = Refusal(
    503, "Too much at once", "This server is making other pictures.", "Try again in a moment."
)
SLOW: Final = Refusal(
    504,
    "This takes too long",
    "The store or the database doesn't answer. The pictures are safe: only this page can't show them.",
    "Try again in a moment.",
)
FAILED: Final = Refusal(
    500,
    "This page could not be made",
    "The images and their records are as they were: only this page failed. The API server's log says why.",
    "Try again in a moment.",
)


def may_not_read(dag_id: str) -> Refusal:
    """Return the refusal of somebody who lacks Airflow's permission for a Dag."""
    return Refusal(403, "You may not see this Dag", f"Ask for permission to read {dag_id}.")


def outside(reason: str) -> Refusal:
    """Return the refusal of a file that the roots don't allow."""
    return Refusal(403, "Not under the gallery roots", reason)


def unreadable(address: str, why: str) -> Refusal:
    """Return the refusal of a file on a disk or store that doesn't answer."""
    safe = "The pictures are safe: only this page can't show them."
    return Refusal(502, f"This server can't read {address}", f"{why} {safe}")


def too_large(what: str, most: str) -> Refusal:
    """Return the refusal of a picture above this server's limits."""
    why = f"The picture has {what}; this server shows up to {most}."
    return Refusal(413, "Too large to show", why, "Download it.")
