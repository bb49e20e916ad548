"""A model of the API: its client as a worker has it, and the books behind it."""

from __future__ import annotations

import binascii
import struct
import zlib
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_gpt_image.api.downloads import Downloaded
from airflow_gpt_image.api.models import Generation, ImageRequest
from airflow_gpt_image.api.settings import ClientSettings
from airflow_gpt_image.errors import (
    ConnectionFailedError,
    GenerationNotFoundError,
    RateLimitError,
    SubmissionUnknownError,
)

if TYPE_CHECKING:
    from tests.money_worker import Worker

SETTINGS = ClientSettings(
    api_key="sk-live-0123456789abcdef", base_url="https://api.example.com", connect_timeout=2, read_timeout=10
)


class Key(NamedTuple):
    """What a record is filed under."""

    map_index: int
    attempt: int
    fingerprint: str


@dataclass(eq=False)
class Charge:
    """
    One accepted submit in the API's books.

    :param told: that its id was on record, and nobody has emptied that place since.
    """

    id: str
    request: ImageRequest
    key: Key
    epoch: int
    status: str = "pending"
    told: bool = False

    @property
    def kept(self) -> Decimal:
        return Decimal(0) if self.status == "failed" else self.request.credits


class Client:
    """The API's client, with the books behind it."""

    def __init__(self, worker: Worker) -> None:
        self.worker, self.world, self.settings = worker, worker.world, SETTINGS

    def submit(self, request: ImageRequest, *, before_send: Any, on_rate_limit: Any) -> str:
        worker, clock, answer = self.worker, self.world.clock, self.worker.answer
        if answer == "later":  # it never left, and is sent again after a pause
            before_send()
            clock.sleep(12)
        before_send()
        worker.step("POST", "before")
        worker.posted = True
        self._check_post()
        if answer == "refused":
            on_rate_limit()
            raise RateLimitError("m")
        if answer == "never left":
            raise ConnectionFailedError("m")
        if answer == "lost before":
            raise SubmissionUnknownError("m")
        clock.sleep(20 if answer == "slow" else 1)
        number = len(self.world.charges)
        key = Key(worker.instance.map_index, worker.attempt, worker.identity)
        charge = Charge(f"g{number}", request, key, worker.max_tries)
        charge.status = "failed" if worker.ending == "fails at once" else "pending"
        self.world.charges.append(charge)
        worker.step("POST", "after")
        if answer == "lost":
            raise SubmissionUnknownError("m")
        earlier = [c for c in self.world.charges[:-1] if c.told and c.key.map_index == key.map_index]
        if answer == "twice" and earlier:
            return earlier[-1].id
        worker.client.answered = charge
        if answer == "odd":
            raise SubmissionUnknownError("An id and an error at once.", generation_id=charge.id)
        return charge.id

    answered: Charge | None = None

    def _check_post(self) -> None:
        """What must hold before anything is sent, and what the author's word is used for."""
        worker, world = self.worker, self.world
        mine = Key(worker.instance.map_index, worker.attempt, worker.identity)
        for key, records in world.on_record().items():
            states = {record["state"] for record in records}
            if key != mine and key.fingerprint == mine.fingerprint and states == {"intent"}:
                world.doubts.setdefault(mine.fingerprint, set()).add(key)
        cleared = worker.max_tries > worker.retries and worker.attempt > 1
        assert world.author.regenerates or not cleared or not worker.found_nothing, (
            "silently paid after a clear"
        )

    def get(self, generation_id: str) -> Generation:
        self.worker.step("GET", "before")
        charge = next((c for c in self.world.charges if c.id == generation_id), None)
        if charge is None:
            raise GenerationNotFoundError("m")
        if charge.status == "pending" and self.worker.ending in ("completed", "failed"):
            charge.status = self.worker.ending
        return generation_of(charge)

    def wait_until(self, generation_id: str, **_: Any) -> Generation:
        if self.worker.ending not in ("completed", "failed"):
            self.worker.ending = "completed"
        return self.get(generation_id)

    def credits(self) -> Decimal:
        return Decimal(1000)

    def download(self, url: str, into: Any, **options: Any) -> Downloaded:
        self.worker.step("download", "before")
        data = png(url.rpartition("/")[2])
        into.write(data)
        return Downloaded(url, "image/png", len(data))


def generation_of(charge: Charge) -> Generation:
    fields: dict[str, Any] = {"id": charge.id, "status": charge.status}
    if charge.status == "completed":
        fields["output"] = {"urls": [f"https://files.example.com/{charge.id}"]}
    if charge.status == "failed":
        fields["error"] = {"code": "upstream_error", "message": "m", "type": "upstream_error"}
    return Generation.model_validate(fields)


def png(text: str) -> bytes:
    """A small picture that says which generation it is."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", binascii.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1024, 1024, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"tEXt", b"id\0" + text.encode())
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )
