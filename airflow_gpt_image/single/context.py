"""What all parts of one image's attempt work with: one value."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from airflow_gpt_image.api.client import GptImageClient
from airflow_gpt_image.api.downloads import Patience
from airflow_gpt_image.api.pricing import Prices
from airflow_gpt_image.callbacks import Callbacks
from airflow_gpt_image.events import Tell, ignore
from airflow_gpt_image.ledger.ledger import Ledger
from airflow_gpt_image.log import REPORT_EVERY, Log
from airflow_gpt_image.single.options import ImageOptions
from airflow_gpt_image.storage.images import ImageFolder
from airflow_gpt_image.storage.names import Names


@dataclass(frozen=True)
class ImageContext:
    """
    Where one image is made, with what, and for whom.

    :param client: of the task's connection.
    :param ledger: of the task instance.
    :param images: where the images are stored; None: they stay where the API put them.
    :param names: what the images are called, as far as it is known before there is a generation.
    :param callbacks: what is configured of them; None: they are off.
    :param tell: is told what happens.
    :param patience: how long an image that doesn't arrive counts as late.
    :param report_every: seconds between two lines that tell how a generation is while it is waited for here.
    """

    client: GptImageClient
    ledger: Ledger
    images: ImageFolder | None
    names: Names
    options: ImageOptions
    log: Log
    callbacks: Callbacks | None = None
    tell: Tell = ignore
    patience: Patience = field(default_factory=Patience)
    report_every: float = REPORT_EVERY

    @property
    def prices(self) -> Prices:
        """Return the price list of the connection."""
        return self.client.settings.prices

    @property
    def regenerates(self) -> bool:
        """Return whether a new image is to be paid for, whatever was paid for before the last clear."""
        return self.options.on_clear == "regenerate" and self.ledger.cleared

    def now(self) -> datetime:
        """Return the time of day, in UTC."""
        return self.ledger.clock.now()

    def deadline(self) -> float:
        """Return when a wait that begins now ends, in seconds since 1970."""
        return self.now().timestamp() + self.options.timeout
