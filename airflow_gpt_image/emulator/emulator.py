"""The emulator itself, without HTTP: settings, books, faults, and the decisions that connect them.

Everything here happens on the server's event loop and nothing waits, so no two submits can interleave: what
the books say is what was decided.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from airflow_gpt_image.emulator.books import Books
from airflow_gpt_image.emulator.callbacks import CallbackSender
from airflow_gpt_image.emulator.error_table import RefusalError
from airflow_gpt_image.emulator.faults import Fault, FaultRegister
from airflow_gpt_image.emulator.gallery import Gallery
from airflow_gpt_image.emulator.generations import Generation, draw_fate
from airflow_gpt_image.emulator.pictures import Picture, check_drawable
from airflow_gpt_image.emulator.settings import Settings
from airflow_gpt_image.emulator.submissions import Submission


class Emulator:
    """One account on one emulated API.

    :param settings: how it starts, and what :meth:`reset` returns to.
    :param faults: the same for faults.
    :param now: seconds since 1970.
    :raises ImportError: when Pillow isn't installed.
    """

    def __init__(self, settings: Settings, faults: Sequence[Fault], now: Callable[[], float]) -> None:
        check_drawable()
        self.now = now
        self.base_url = ""  # known once it listens
        self.gallery = Gallery()
        self._initial = settings, tuple(faults)
        self._callbacks = CallbackSender(now, self.payload, lambda: self.settings.webhook_secret)
        self.reset()

    def reset(self) -> None:
        """As it was at the start: new books, the initial settings and faults, no generation known.

        Requests that are under way keep the books they came with.
        """
        self.settings, faults = self._initial
        self.books = Books(self.settings.credits)
        self.faults = FaultRegister(self.settings.seed, self.now)
        for fault in faults:
            self.faults.add(fault)
        self._callbacks.forget()
        self._next_submit_at = 0.0

    def change(self, changes: Mapping[str, Any]) -> None:
        """Change settings from now on; generations under way keep their fate. ``credits`` sets the balance.

        :raises ValueError: when one is not valid; nothing is changed then.
        """
        self.settings = self.settings.changed(changes)
        if "credits" in changes:
            self.books.set_balance(self.settings.credits, self.now())

    def check_key(self, authorization: str | None) -> str:
        """The API key in an Authorization header.

        :raises RefusalError: ``invalid_api_key``.
        """
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or key not in self.settings.keys:
            raise RefusalError("invalid_api_key")
        return key

    def check_rate(self) -> None:
        """Count a submit against the rate limit; a second's worth may come at once.

        :raises RefusalError: ``rate_limit_exceeded`` with the whole seconds to wait.
        """
        rate = self.settings.rate_limit
        if rate is None:
            return
        now = self.now()
        ahead = max(self._next_submit_at - now, 0.0)
        wait = ahead - (max(rate, 1.0) - 1) / rate
        # Some rounding is due to the clock: seconds since 1970 leave a float only a quarter of a microsecond.
        if wait > 1e-6:
            raise RefusalError("rate_limit_exceeded", headers={"retry-after": str(max(1, math.ceil(wait)))})
        self._next_submit_at = now + ahead + 1 / rate

    def price(self, submission: Submission) -> Decimal:
        """Return what it costs now, in credits."""
        return self.settings.prices[submission.request.resolution]

    def accept(self, submission: Submission, key: str, books: Books, faults: FaultRegister) -> Generation:
        """Accept and charge.

        :param books: the books and
        :param faults: the faults as they were when the request came.
        :raises RefusalError: ``insufficient_credits``.
        """
        now = self.now()
        price = self.price(submission)
        books.check_affords(price, now)
        number = len(books.generations) + 1
        fate = draw_fate(self.settings, number, faults.take("generation", submission.request.prompt))
        generation = Generation(
            str(uuid.uuid4()), number, key, submission.input, submission.request, now, fate, price
        )
        books.accept(generation)
        self._callbacks.expect(generation, books, faults)
        return generation

    def find(self, generation_id: str, key: str) -> Generation:
        """The generation, if this key submitted it.

        :raises RefusalError: ``task_not_found``.
        """
        generation = self.books.generations.get(generation_id)
        if generation is None or generation.key != key or not generation.visible(self.now()):
            raise RefusalError("task_not_found")
        return generation

    def payload(self, generation: Generation) -> dict[str, Any]:
        """What a GET answers about it now."""
        base = self.settings.files_url or self.base_url
        return generation.payload(
            self.now(), [f"{base}/files/images/{name}" for name in generation.file_names()]
        )

    def picture(self, file_name: str) -> tuple[Generation, Picture] | None:
        """What an image file shows; None when there is no such file, not yet or not any more."""
        generation, now = self.books.generations.get(file_name[:36]), self.now()
        if generation is None or generation.status(now) != "completed":
            return None
        if now >= generation.finished_at + self.settings.image_life:
            return None
        names = generation.file_names()
        if file_name not in names:
            return None
        request = generation.request
        picture = Picture(
            prompt=request.prompt,
            size=request.sizes[0],
            aspect_ratio=request.aspect_ratio,
            resolution=request.resolution,
            references=len(request.image_urls),
            name=generation.id[:8],
            copy=names.index(file_name) + 1,
        )
        return generation, picture

    def report(self) -> dict[str, Any]:
        """The books, with the faults that were met."""
        return {**self.books.report(self.now()), "faults": self.faults.report()}

    async def close(self) -> None:
        """End callbacks and drawing."""
        await self._callbacks.close()
        self.gallery.close()
