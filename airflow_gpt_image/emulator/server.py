"""The emulator on a socket: under uvicorn in the foreground, or in a thread of a test's own process."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from decimal import Decimal
from typing import Any, Self, TypeVar

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from airflow_gpt_image.emulator.app import build_app
from airflow_gpt_image.emulator.emulator import Emulator
from airflow_gpt_image.emulator.faults import Fault
from airflow_gpt_image.emulator.loopback import is_loopback
from airflow_gpt_image.emulator.settings import DEFAULT_KEY, IMAGE_LIFE, Duration, Settings
from airflow_gpt_image.emulator.wire import TRANSPORT

T = TypeVar("T")

# Idle connections stay open: a close racing with a submit would be a lost answer that nobody asked for.
_KEEP_ALIVE_SECONDS = 3600


class _Protocol(H11Protocol):
    """uvicorn's own protocol, the pure Python one so that the emulator behaves alike on every machine.

    Puts the transport into the scope: cutting a connection is not a thing ASGI can say.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.access_log = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        app = self.app

        async def with_transport(scope: Any, receive: Any, send: Any) -> None:
            scope[TRANSPORT] = transport
            await app(scope, receive, send)

        self.app = with_transport


class Server(uvicorn.Server):
    """Serves the emulator until ``should_exit``.

    :param on_listening: called once requests are taken.
    """

    def __init__(self, emulator: Emulator, on_listening: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                build_app(emulator),
                loop="asyncio",
                http=_Protocol,
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                proxy_headers=False,
                server_header=False,
                date_header=False,  # the emulator's own clock says what time it is
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=1,
            )
        )
        self._emulator = emulator
        self._on_listening = on_listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_listening()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # A fault may be holding an answer back for minutes; uvicorn would wait for it.
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        for task in list(self.server_state.tasks):
            task.cancel()
        await super().shutdown(sockets)
        await self._emulator.close()


def listen(emulator: Emulator, host: str, port: int) -> socket.socket:
    """A listening socket, its address told to the emulator.

    :raises ValueError: when the host is not this machine.
    :raises OSError: when the port is taken.
    """
    if not is_loopback(host):
        raise ValueError(
            f"{host!r} is not this machine; the emulator listens on 127.0.0.1, ::1 or localhost only."
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because only then does asyncio switch Nagle's algorithm off; with it every answer,
    # which uvicorn sends in two writes, would take 40 ms.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(2048)
    except OSError:
        listening.close()
        raise
    port = listening.getsockname()[1]
    emulator.base_url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    return listening


class EmulatorServer:
    """The emulator in a thread of this process, as a context manager.

    >>> with EmulatorServer(duration=0.1) as emulator:
    ...     emulator.fault("submit", "503", times=2)
    ...     emulator.url, emulator.key, emulator.books()["balance"]

    All methods can be called from any thread, also after the end.

    :param host: a name or address of this machine.
    :param port: 0 takes any that is free.
    :param keys: accepted API keys; see :class:`Settings` for these and the following.
    :param credits: the balance.
    :param duration: seconds a generation takes, ``2``, ``"1-3"`` or ``(1, 3)``.
    :param rate_limit: submits per second; None for no limit.
    :param fail_rate: share of generations that fail, 0 to 1.
    :param seed: of durations, failures and shares.
    :param files_url: base of the image addresses, instead of the emulator's own.
    :param prices: credits by tier, ``{"1k": "5"}``, where they aren't the document's.
    :param image_life: seconds that images are there after they were made; a day by default.
    :param faults: faults from the start, as :class:`Fault` or as text; :meth:`reset` returns to them.
    :param now: seconds since 1970; give a clock of your own to move generations on without waiting.
    :raises ValueError: when a setting, a fault or the host is not valid.
    :raises ImportError: when Pillow isn't installed.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        keys: Iterable[str] = (DEFAULT_KEY,),
        credits: float | str = 1000,
        duration: Duration = (1.0, 3.0),
        rate_limit: float | None = None,
        fail_rate: float = 0.0,
        seed: int = 0,
        files_url: str | None = None,
        prices: Mapping[str, float | str | Decimal] | None = None,
        image_life: float = IMAGE_LIFE,
        faults: Iterable[Fault | str] = (),
        now: Callable[[], float] = time.time,
    ) -> None:
        settings = Settings().changed(
            {
                "keys": keys,
                "credits": credits,
                "duration": duration,
                "rate_limit": rate_limit,
                "fail_rate": fail_rate,
                "seed": seed,
                "files_url": files_url,
                "prices": prices or {},
                "image_life": image_life,
            }
        )
        initial = [fault if isinstance(fault, Fault) else Fault.parse(fault) for fault in faults]
        self._emulator = Emulator(settings, initial, now)
        self._address = host, port
        self._listening = threading.Event()
        self._server: Server | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen. Returns when requests are taken, some 20 ms later. Can be done once.

        :raises OSError: when the port is taken.
        """
        listening = listen(self._emulator, *self._address)
        self._server = Server(self._emulator, self._listening.set)
        self._thread = threading.Thread(
            target=self._serve, args=(self._server, listening), name="gpt-image-emulator", daemon=True
        )
        self._thread.start()
        self._listening.wait()
        if not self._server.started:
            raise RuntimeError("The emulator could not start; the error is its thread's.")

    def stop(self) -> None:
        """End, whatever is under way. Takes some 0.2 s."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join()

    def _serve(self, server: Server, listening: socket.socket) -> None:
        try:
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                self._loop = runner.get_loop()
                runner.run(server.serve(sockets=[listening]))
        finally:
            self._listening.set()  # also when it failed: start() must not wait for ever
            listening.close()

    def _ask(self, question: Callable[[], T]) -> T:
        """The answer, found on the server's loop: nothing else touches the books, so nothing is locked."""
        if self._thread is None or not self._thread.is_alive() or self._loop is None:
            return question()
        answer: Future[T] = Future()

        def find() -> None:
            try:
                answer.set_result(question())
            except Exception as error:  # noqa: BLE001  (it is raised where the question was asked)
                answer.set_exception(error)

        self._loop.call_soon_threadsafe(find)
        return answer.result(timeout=10)

    @property
    def url(self) -> str:
        """The base address, such as ``http://127.0.0.1:40123``: the connection's host."""
        return self._emulator.base_url

    @property
    def key(self) -> str:
        """The first accepted API key: the connection's password."""
        return self._emulator.settings.keys[0]

    def airflow_connection(self, **extra: Any) -> str:
        """
        Return the connection in JSON, for an environment variable such as ``AIRFLOW_CONN_GPT_IMAGE_DEFAULT``.

        :param extra: fields of the connection's Extra, such as ``read_timeout=5``.
        """
        fields = {"conn_type": "gpt_image", "password": self.key, "host": self.url}
        return json.dumps({**fields, "extra": extra} if extra else fields)

    def books(self) -> dict[str, Any]:
        """What was submitted, charged and refunded, and who asked how often; see ``books.py``."""
        return self._ask(self._emulator.report)

    def fault(self, where: str, kind: str | None = None, value: Any = None, **options: Any) -> Fault:
        """Let something go wrong from now on, after the faults that are there.

        :param where: the place, or alone a whole fault as text, ``"submit:503*2"``.
        :param kind: what happens.
        :param value: what the kind takes.
        :param options: ``times``, ``after``, ``share``, ``match`` … as in :class:`Fault`.
        :raises ValueError: when there is no such fault.
        """
        fault = Fault.parse(where) if kind is None else Fault(where, kind, value, **options)
        self._ask(lambda: self._emulator.faults.add(fault))
        return fault

    def faults(self) -> list[dict[str, Any]]:
        """The registered faults as text, each with the number of requests it met."""
        return self._ask(self._emulator.faults.report)

    def clear_faults(self) -> None:
        """Let nothing go wrong any more."""
        self._ask(self._emulator.faults.clear)

    def settings(self, **changes: Any) -> Settings:
        """Change settings from now on, and say what they are; without changes, only the latter.

        :raises ValueError: when one is not valid.
        """
        self._ask(lambda: self._emulator.change(changes))
        return self._emulator.settings

    def reset(self) -> None:
        """As at the start: new books, and the settings and faults it was created with."""
        self._ask(self._emulator.reset)
