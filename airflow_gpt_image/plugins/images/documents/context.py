"""What every document is made with: who asks, and what may be shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from airflow_gpt_image.plugins.images.addresses import file_url, image_urls
from airflow_gpt_image.plugins.images.balances import Balances
from airflow_gpt_image.plugins.images.roots import Roots
from airflow_gpt_image.plugins.images.tokens import Tokens


@dataclass(frozen=True)
class Context:
    """
    Who asks, and what may be shown.

    :param user: as Airflow's auth manager knows it.
    :param may_read: says of a user and a Dag's id whether its results may be read.
    :param readable_dags: gives a user's Dags whose results may be read.
    :param may_read_connection: says of a user and a connection's id whether it may be read.
    :param balances: of the accounts behind connections.
    :param now: the time of day, with a zone.
    :param patience: seconds that a live page waits for what lies at a store, before it shows what was there
        when it was looked at last.
    """

    user: Any
    roots: Roots
    tokens: Tokens
    may_read: Callable[[Any, str], bool]
    readable_dags: Callable[[Any], set[str]]
    may_read_connection: Callable[[Any, str], bool]
    balances: Balances
    now: datetime
    patience: float = 0.4

    def can_read(self, dag_id: str) -> bool:
        """Return whether who asks may read a Dag's results."""
        return self.may_read(self.user, dag_id)

    def balances_of(self, conn_ids: Iterable[str]) -> dict[str, Decimal]:
        """Return the balances in US dollars that could be read, of connections that who asks may read."""
        return self.balances.of(each for each in conn_ids if self.may_read_connection(self.user, each))

    def image(self, dag_id: str, path: str | None, **facts: Any) -> dict[str, Any]:
        """Return the document of a stored image: its addresses, if it may be shown."""
        return image_urls(dag_id, path, self.roots, self.tokens, **facts)

    def link(self, dag_id: str, path: object) -> dict[str, str] | None:
        """Return a link to a file that a task wrote; None when there is none, or it may not be served."""
        url = file_url(dag_id, path, self.roots, self.tokens) if isinstance(path, str) else None
        return None if url is None else {"label": str(path).rpartition("/")[2][:200], "url": url}
