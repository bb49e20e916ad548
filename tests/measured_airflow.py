"""Airflow's API server in a process of its own, which tells what its requests cost it: time, and its loop's.

``python -m tests.measured_airflow PORT`` is the process. It serves Airflow's own application, our plugin in
it, by uvicorn on one event loop, and beside it ``/measured/begin`` and ``/measured/end``.
"""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from stack.processes import free_port

_BEAT = 0.002


@dataclass(frozen=True)
class Cost:
    """
    What requests cost the server, in seconds.

    :param gap: for how long its loop did nothing else at most.
    :param collecting: the longest pause of Python's garbage collector, which is one of them.
    """

    wall: float
    cpu: float
    gap: float
    collecting: float


class MeasuredAirflow:
    """A client of the process."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        self.costs: list[Cost] = []

    @contextmanager
    def measure(self) -> Iterator[list[Cost]]:
        """Measure what is asked for meanwhile; the list has its cost afterwards."""
        self.client.post("/measured/begin").raise_for_status()
        found: list[Cost] = []
        begun = time.perf_counter()
        yield found
        wall = time.perf_counter() - begun
        found.append(Cost(wall=wall, **self.client.post("/measured/end").raise_for_status().json()))
        self.costs += found


@contextmanager
def measured_airflow() -> Iterator[MeasuredAirflow]:
    """Run it in this process' environment until the block ends."""
    port = free_port()
    command = [sys.executable, "-m", __name__, str(port)]
    log = Path(os.environ["AIRFLOW_HOME"], "measured-airflow.log")
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
            _wait_until_it_answers(client, process, log)
            yield MeasuredAirflow(client)
    finally:
        process.terminate()
        process.wait(timeout=60)


def _wait_until_it_answers(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 300
    while time.monotonic() < until and process.poll() is None:
        try:
            if client.get("/api/v2/version").is_success:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise RuntimeError(f"Airflow did not start:\n{log.read_text()[-3_000:]}")


class _Measuring:
    """Measures this process, whose loop it is in."""

    def __init__(self) -> None:
        self._beating: asyncio.Task[None] | None = None
        self._gap = self._cpu = self._collecting = self._collects_since = 0.0
        gc.callbacks.append(self._note)

    def _note(self, phase: str, info: Mapping[str, int]) -> None:
        if phase == "start":
            self._collects_since = time.perf_counter()
        else:
            self._collecting = max(self._collecting, time.perf_counter() - self._collects_since)

    async def begin(self, request: Any) -> Any:
        from starlette.responses import JSONResponse

        self._beating = asyncio.create_task(self._beat())
        self._gap = self._collecting = 0.0
        self._cpu = time.process_time()
        return JSONResponse({})

    async def end(self, request: Any) -> Any:
        from starlette.responses import JSONResponse

        assert self._beating is not None
        self._beating.cancel()
        cpu = time.process_time() - self._cpu
        return JSONResponse({"cpu": cpu, "gap": self._gap, "collecting": self._collecting})

    async def _beat(self) -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(_BEAT)
            now = time.perf_counter()
            self._gap, last = max(self._gap, now - last - _BEAT), now


def serve(port: int) -> None:
    """Serve Airflow at a port of this machine until the process is ended."""
    import uvicorn
    from airflow.api_fastapi.app import create_app
    from starlette.routing import Route

    app = create_app(apps="core")
    measuring = _Measuring()
    for name, route in (("begin", measuring.begin), ("end", measuring.end)):
        # Before Airflow's own, of which one takes every address.
        app.router.routes.insert(0, Route(f"/measured/{name}", route, methods=["POST"]))
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
