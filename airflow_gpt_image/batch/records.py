"""One record for each image at the destination: what was paid for it, and what became of it.

States::

    (nothing) ──▶ intent ──▶ submitted ──▶ stored
        ▲           │            │
        └───────────┘            └──▶ failed ──▶ intent
        not accepted         refunded

Rules:

1. The intent is there before the POST, and the id right after its answer.
2. "Could not read" is an error, never "nothing there".
3. ``failed`` means refunded. What is paid for and not (yet) an image stays ``submitted``, whatever is wrong.
4. A record leads nowhere: its images are those beside it, and one that isn't there, whole, isn't had.
5. It is the images' sidecar, too: what was asked for stands in it for people and other programs, and isn't
   read here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from airflow_gpt_image.api.models import GeneratedImage, ImageRequest, check_generation_id
from airflow_gpt_image.batch.plan import ITEMS, Item
from airflow_gpt_image.errors import DestinationError, GenerationFailedError, GptImageError
from airflow_gpt_image.storage.folders import Folder
from airflow_gpt_image.storage.landing import told
from airflow_gpt_image.storage.pictures import KINDS

State = Literal["intent", "submitted", "stored", "failed"]

# Anybody may have written a record, and sums over numbers without end take time without end.
Count = Annotated[int, Field(ge=0, le=1_000_000)]
Credits = Annotated[Decimal, Field(ge=0, max_digits=9, decimal_places=3)]

# A prompt and sixteen addresses, as long as they may be, are a third of it.
_LARGEST: Final = 1_000_000
_LONGEST_MESSAGE: Final = 1_000


class ItemError(BaseModel):
    """Why there is no image: the error's class, the API's code, and the message."""

    model_config = ConfigDict(frozen=True)

    error: str
    code: str | None = None
    message: str
    retryable: bool = False

    @classmethod
    def of(cls, error: GptImageError) -> ItemError:
        """What is kept of an error."""
        return cls(
            error=type(error).__name__,
            code=error.code,
            message=error.message[:_LONGEST_MESSAGE],
            retryable=error.retryable,
        )


class Record(BaseModel):
    """
    What is on record about one image of a data set.

    :param by: whose doing it is: a task instance since its last clear.
    :param attempt: in which try of it; ``retries`` counts what was paid for again within that.
    :param charges: how often it was charged by that one, the present time included; ``refunds`` likewise.
    :param images: in the order of the generation's URLs, once they are stored.
    :param error: with ``failed`` why it failed; with ``submitted`` why there is no image yet.
    """

    model_config = ConfigDict(frozen=True)

    version: Literal[1] = 1
    state: State
    by: str
    attempt: Count
    retries: Count = 0
    fingerprint: str
    charges: Count = 1
    refunds: Count = 0
    credits: Credits
    intended_at: AwareDatetime
    submitted_at: AwareDatetime | None = None
    settled_at: AwareDatetime | None = None
    generation_id: Annotated[str, BeforeValidator(check_generation_id)] | None = None
    images: tuple[GeneratedImage, ...] = ()
    error: ItemError | None = None

    @property
    def payer(self) -> Payer:
        """Whose doing it is."""
        return Payer(self.by, self.attempt)

    @property
    def seconds(self) -> float | None:
        """From the submit to the stored image."""
        if self.submitted_at is None or self.settled_at is None:
            return None
        return round((self.settled_at - self.submitted_at).total_seconds(), 1)

    @property
    def age(self) -> float:
        """Seconds since it was submitted, by this machine's clock; 0 when another clock is ahead of it."""
        return max(0.0, (_now() - self.submitted_at).total_seconds()) if self.submitted_at else 0.0

    def submitted(self, generation_id: str) -> Record:
        """Accepted, with this id."""
        return self._moved("submitted", generation_id=generation_id, submitted_at=_now())

    def stored(self, images: Iterable[GeneratedImage]) -> Record:
        """All its images are at the destination."""
        return self._moved("stored", images=tuple(images), settled_at=_now(), error=None)

    def failed(self, error: GenerationFailedError) -> Record:
        """The generation failed, and was refunded."""
        return self._moved("failed", refunds=self.refunds + 1, settled_at=_now(), error=ItemError.of(error))

    def without_image(self, error: GptImageError) -> Record:
        """It is paid for, and there is no image for this reason."""
        return self._moved("submitted", error=ItemError.of(error))

    def _moved(self, state: State, **changes: Any) -> Record:
        return self.model_copy(update={"state": state, **changes})


class Payer(NamedTuple):
    """
    Whose doing it is that something is paid for.

    :param by: a task instance since its last clear.
    :param attempt: its try's number.
    """

    by: str
    attempt: int


def intended(item: Item, before: Record | None, payer: Payer) -> Record:
    """The record of an item that is about to be submitted, after what is on record."""
    own = before if before is not None and before.by == payer.by else None
    again = own is not None and own.attempt == payer.attempt
    return Record(
        state="intent",
        by=payer.by,
        attempt=payer.attempt,
        retries=own.retries + 1 if own and again else 0,
        fingerprint=item.fingerprint,
        charges=own.charges + 1 if own else 1,
        refunds=own.refunds if own else 0,
        credits=item.credits,
        intended_at=_now(),
    )


def refused(item: Item, before: Record | None, error: GptImageError, payer: Payer) -> Record | None:
    """The record of an item that wasn't accepted; None when what is on record must stay: it tells more."""
    if before is not None and before.state != "failed":
        return None
    mine = intended(item, before, payer)
    changes = {"state": "failed", "charges": mine.charges - 1, "settled_at": _now()}
    return mine.model_copy(update={**changes, "error": ItemError.of(error)})


class Records:
    """
    The records of a plan's items, as far as they are read.

    :param folder: the destination.
    :param threads: carry out what is read and written; stores answer slowly, and many at a time.
    """

    def __init__(self, folder: Folder, threads: Executor) -> None:
        self._folder = folder
        self._threads = threads
        self._known: dict[str, Record] = {}

    def load(self, items: Iterable[Item]) -> None:
        """
        Read the records of these items: one listing, and one small file for each that has one.

        :raises DestinationError: when one can't be read, or makes no sense.
        """
        items = list(items)
        sizes = self._folder.sizes(ITEMS) if items else {}
        there = [item for item in items if f"{item.name}.json" in sizes]
        read = self._threads.map(lambda item: self._read(item, sizes), there)
        for item, record in zip(there, read, strict=True):
            if record is not None:
                self._known[item.name] = record

    def find(self, item: Item) -> Record | None:
        """An item's record; None when there provably is none. Only of items that are loaded."""
        return self._known.get(item.name)

    def write(self, item: Item, record: Record, request: ImageRequest) -> Record:
        """Put a record in its place, with what was asked for."""
        document = record.model_dump(mode="json") | {"request": told(request)}
        data = json.dumps(document, ensure_ascii=False, indent=1).encode()
        self._folder.write(f"{item.name}.json", data)
        self._known[item.name] = record
        return record

    def withdraw(self, item: Item, before: Record | None, request: ImageRequest) -> None:
        """Put back what was on record before an intent: it provably wasn't accepted."""
        if before is not None:
            self.write(item, before, request)
            return
        self._folder.remove(f"{item.name}.json")
        self._known.pop(item.name, None)

    def _read(self, item: Item, sizes: Mapping[str, int]) -> Record | None:
        name = f"{item.name}.json"
        data = self._folder.read(name) if sizes[name] <= _LARGEST else b""
        if data is None:
            return None
        try:
            record = Record.model_validate_json(data)
            if record.fingerprint != item.fingerprint:
                raise ValueError("it is about another request")
            # One that failed has an id if it was accepted, and none if it wasn't.
            known = record.generation_id is not None
            if record.state != "failed" and known == (record.state == "intent"):
                raise ValueError("its state and its generation id contradict each other")
        except (ValidationError, ValueError, RecursionError) as error:
            # Not taken for "nothing there", which would pay again.
            raise DestinationError(
                f"{self._folder.address(name)} is no record of this release ({type(error).__name__}). Mend "
                "it, or remove it, and the image is paid for anew."
            ) from None
        return self._believed(item, record, sizes)

    def _believed(self, item: Item, record: Record, sizes: Mapping[str, int]) -> Record:
        """The record with its images' paths as they are seen from here; not stored, if one isn't there."""
        if record.state != "stored":
            return record
        missing = record.model_copy(update={"state": "submitted", "images": (), "settled_at": None})
        images = []
        for index, image in enumerate(record.images):
            kind = (image.path or "").rpartition(".")[2]
            name = f"{image_stem(item, index)}.{kind}"
            if kind not in KINDS or image.bytes is None or sizes.get(name) != image.bytes:
                return missing
            images.append(image.model_copy(update={"path": self._folder.address(name)}))
        return record.model_copy(update={"images": tuple(images)}) if images else missing


def image_stem(item: Item, index: int) -> str:
    """The name of an item's image without its ending; most have one."""
    return item.name if index == 0 else f"{item.name}~{index}"


def _now() -> datetime:
    return datetime.now(UTC)
