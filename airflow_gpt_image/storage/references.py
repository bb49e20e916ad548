"""Which objects on the user's own stores may be signed for the API: those that the author of the task named.

A request can come out of a data set, a DAG run's conf or another task, and whoever writes those isn't the
author. An object that they name would be read with a connection of the author's and shown to the API.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import unquote

from airflow_gpt_image.api.addresses import OBJECT_SCHEMES, is_object
from airflow_gpt_image.api.text import quote
from airflow_gpt_image.errors import InvalidRequestError, Problem

if TYPE_CHECKING:
    from airflow_gpt_image.api.models import ImageRequest

EXAMPLE: Final = "s3://my_conn_id@bucket/photos/"
_ROOT: Final = re.compile(r"[a-z0-9]+://[^/?#\\*{}]+(?:/[^?#\\*{}]*)?")
_SEPARATOR: Final = re.compile(r"[/\\]")
# A name that is percent-encoded more often means nothing good.
_MOST_DECODED: Final = 4


class Refusal(NamedTuple):
    """Why an object isn't signed: its address, the rule, and what to do, each a sentence."""

    value: str
    rule: str
    remedy: str


@dataclass(frozen=True)
class References:
    """
    The objects that may be signed.

    :param roots: prefixes of addresses, as :func:`check_roots` gives them. Scheme, connection id and bucket
        have to be the same; a path covers what is beneath it, and the object of that very name.
    :param written: addresses that stand in the DAG file, word for word.
    """

    roots: tuple[str, ...] = ()
    written: frozenset[str] = frozenset()

    def refusal(self, address: str) -> Refusal | None:
        """Return why the object at an address may not be signed; None when it may, or is no object."""
        if not is_object(address) or address in self.written or self._covers(address):
            return None
        listed = f"They are {quote(list(self.roots), 400)}." if self.roots else "There are none."
        return Refusal(
            f"{quote(address)} comes from a row, a template, expand() or another task.",
            f"Such an object is signed for the API only under the task's reference_roots. {listed}",
            f"If the API may read it, list its folder there, such as {EXAMPLE!r}; or give an https address.",
        )

    def check(self, request: ImageRequest) -> None:
        """
        Refuse a request with an object that may not be signed.

        :raises InvalidRequestError: when there is one.
        """
        for index, address in enumerate(request.image_urls):
            refusal = self.refusal(address)
            if refusal is not None:
                message = "\n".join((f"item {index}: {refusal.value}", refusal.rule, refusal.remedy))
                raise InvalidRequestError(f"image_urls: {message}", problems=[Problem("image_urls", message)])

    def _covers(self, address: str) -> bool:
        beneath = any(address == root or address.startswith(f"{root}/") for root in self.roots)
        return beneath and _is_plain(address)


NO_REFERENCES: Final = References()


def check_roots(given: object) -> tuple[str, ...]:
    """
    Read the argument ``reference_roots``: prefixes of objects' addresses, without a slash at the end.

    :raises InvalidRequestError: naming the value, the rule and the remedy.
    """
    if given is None:
        return ()
    if not isinstance(given, (list, tuple)):
        raise _refused(given, "is not a list of prefixes")
    return tuple(map(_checked_root, given))


def _checked_root(given: object) -> str:
    root = str(given) if isinstance(given, str) or hasattr(given, "protocol") else ""
    scheme, _, rest = root.partition("://")
    if ":" in rest.partition("/")[0].rpartition("@")[0]:
        # Not shown: what stands there is a password.
        raise _refused(f"{scheme}://…", "contains a password; name a connection instead")
    root = root.rstrip("/")
    if scheme not in OBJECT_SCHEMES or scheme == "file":
        raise _refused(given, "is not a prefix of objects' addresses on a store that can sign them")
    if not root.isprintable() or not _ROOT.fullmatch(root) or not _is_plain(root):
        raise _refused(
            given, "is no plain prefix: it may hold no '..', empty folder, query, pattern, or template"
        )
    return root


def _is_plain(address: str) -> bool:
    """Return whether no store and no reader can take an address for another one: no ``..`` in any form."""
    path = address.partition("://")[2]
    for _ in range(_MOST_DECODED):
        if any(step in ("", ".", "..") for step in _SEPARATOR.split(path)):
            return False
        if (decoded := unquote(path)) == path:
            return True
        path = decoded
    return False


def _refused(given: object, rule: str) -> InvalidRequestError:
    message = (
        f"{quote(given)} {rule}.\n"
        "Each root is the beginning of addresses, up to a folder: scheme, connection id, bucket, folder.\n"
        f"Give a list such as [{EXAMPLE!r}]."
    )
    return InvalidRequestError(f"reference_roots: {message}", problems=[Problem("reference_roots", message)])


def object_addresses(value: object) -> Iterator[str]:
    """Yield the addresses of objects in a list as the DAG file has it; another task's result is none."""
    if isinstance(value, (list, tuple)):
        for item in value:
            address = str(item) if hasattr(item, "protocol") else item
            if isinstance(address, str) and is_object(address):
                yield address
