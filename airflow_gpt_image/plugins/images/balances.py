"""
Read the balances of accounts, for a page that doesn't wait for them long.

The API is asked with the connection's own key and at the connection's own host, from the API server, as the
connection form's *Test* does. Who may not read a connection is told nothing of its account.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from dataclasses import replace
from decimal import Decimal
from functools import partial
from threading import Lock
from typing import Final

from airflow_gpt_image.api.blocking import in_thread
from airflow_gpt_image.api.retrying import Retrying

_log = logging.getLogger(__name__)

# More are no figures beside each other any more.
_MOST: Final = 3
# Seconds for one call to the API.
_LONGEST_CALL: Final = 5.0


class Balances:
    """
    The balances that were read last. May be used by many threads at once.

    :param read: gives a connection's balance in US dollars, by the connection's id. It may block and raise.
    :param seconds: that a page waits for those that aren't known yet; they are there when it is opened again.
    :param fresh_for: seconds after which a balance is read again.
    """

    def __init__(
        self, read: Callable[[str], Decimal], *, seconds: float = 1.0, fresh_for: float = 60.0
    ) -> None:
        self._read = read
        self._seconds = seconds
        self._fresh_for = fresh_for
        self._lock = Lock()
        self._asked: dict[str, tuple[float, Future[Decimal]]] = {}

    def of(self, conn_ids: Iterable[str]) -> dict[str, Decimal]:
        """
        Return balances in US dollars, by connections' ids; one that can't be read (yet) is left out.

        :param conn_ids: of which the first three are asked for.
        """
        asked = {conn_id: self._ask(conn_id) for conn_id in list(conn_ids)[:_MOST]}
        wait(asked.values(), timeout=self._seconds)
        return {
            conn_id: found.result()
            for conn_id, found in asked.items()
            if found.done() and found.exception() is None
        }

    def _ask(self, conn_id: str) -> Future[Decimal]:
        with self._lock:
            now = time.monotonic()
            since, asking = self._asked.get(conn_id, (0.0, None))
            if asking is None or (asking.done() and now - since > self._fresh_for):
                asking = in_thread(partial(self._read, conn_id))
                asking.add_done_callback(partial(_log_failure, conn_id))
                self._asked[conn_id] = now, asking
            return asking


def read_balance(conn_id: str) -> Decimal:
    """
    Return the balance of a connection's account in US dollars, asked for once and with a short timeout.

    :raises GptImageError: when there is no such connection, or the API doesn't tell.
    """
    from airflow_gpt_image.api.client import GptImageClient
    from airflow_gpt_image.hooks.gpt_image import GptImageHook

    settings = GptImageHook(conn_id).settings()
    settings = replace(
        settings,
        connect_timeout=min(settings.connect_timeout, _LONGEST_CALL),
        read_timeout=min(settings.read_timeout, _LONGEST_CALL),
    )
    with GptImageClient(settings, retrying=Retrying(most_sends=1)) as client:
        return settings.prices.usd(client.credits())


def _log_failure(conn_id: str, asked: Future[Decimal]) -> None:
    error = asked.exception()
    if error is not None:
        _log.info("The balance of connection %r could not be read: %s", conn_id, error)
