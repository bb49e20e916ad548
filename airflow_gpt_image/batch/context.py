"""What all parts of a batch work with: one value, made once the destination is this task's."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime

from airflow_gpt_image.api.client import GptImageClient
from airflow_gpt_image.api.pricing import Prices
from airflow_gpt_image.batch.lease import Lease
from airflow_gpt_image.batch.lock import DestinationLock
from airflow_gpt_image.batch.options import BatchOptions
from airflow_gpt_image.batch.plan import Plan
from airflow_gpt_image.batch.records import BatchRecords
from airflow_gpt_image.batch.stop import Stop
from airflow_gpt_image.batch.timing import Timing
from airflow_gpt_image.events import Tell
from airflow_gpt_image.ledger.budget import Budget
from airflow_gpt_image.ledger.payer import Payer
from airflow_gpt_image.ledger.timing import Clock
from airflow_gpt_image.log import Log
from airflow_gpt_image.storage.folders import Folder


@dataclass(frozen=True)
class BatchContext:
    """
    Where a batch works, with what, and for whom.

    :param client: of the task's connection; it may be used by many threads.
    :param threads: carry out what blocks.
    :param tell: is told what happens.
    """

    client: GptImageClient
    folder: Folder
    plan: Plan
    records: BatchRecords
    lease: Lease
    lock: DestinationLock
    options: BatchOptions
    payer: Payer
    budget: Budget
    stop: Stop
    threads: Executor
    timing: Timing
    clock: Clock
    log: Log
    tell: Tell

    @property
    def prices(self) -> Prices:
        """Return the price list of the connection."""
        return self.client.settings.prices

    def now(self) -> datetime:
        """Return the time of day, in UTC."""
        return self.clock.now()
