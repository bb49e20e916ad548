"""What Airflow sends of metrics: lines of StatsD with tags, over a real socket."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple


class Line(NamedTuple):
    """One metric as it was sent."""

    name: str
    value: float
    kind: str
    tags: dict[str, str]


class MetricLines:
    """A StatsD server as far as a test needs one: it keeps what it gets."""

    def __init__(self, receiver: socket.socket) -> None:
        self._receiver = receiver
        self._lines: list[Line] = []

    def lines(self, name: str | None = None) -> list[Line]:
        """Those that have come, of one name or of ours."""
        while True:
            try:
                sent = self._receiver.recv(65_536).decode()
            except BlockingIOError:
                break
            self._lines += map(_read, sent.splitlines())
        wanted = [line for line in self._lines if line.name.startswith("gpt_image.")]
        return [line for line in wanted if name is None or line.name == f"gpt_image.{name}"]

    def total(self, name: str) -> float:
        """The sum of a counter, or of a timer's values."""
        return sum(line.value for line in self.lines(name))


def _read(line: str) -> Line:
    matched = re.fullmatch(r"airflow\.([\w.]+)((?:,[^,=]+=[^,=]*)*):(-?[\d.]+)\|(\w+)", line)
    assert matched is not None, line
    name, tags, value, kind = matched.groups()
    return Line(name, float(value), kind, dict(tag.split("=") for tag in tags.split(",")[1:]))


@contextmanager
def receive_metrics() -> Iterator[MetricLines]:
    """Have Airflow's metrics sent here, as its configuration would."""
    from airflow.sdk._shared.observability.metrics.base_stats_logger import NoStatsLogger
    from airflow.sdk._shared.observability.metrics.statsd_logger import get_statsd_logger
    from airflow.sdk.observability import stats
    from statsd import StatsClient

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.setblocking(False)
        client = get_statsd_logger(
            stats_class=StatsClient,
            host="127.0.0.1",
            port=receiver.getsockname()[1],
            prefix="airflow",
            influxdb_tags_enabled=True,
            statsd_influxdb_enabled=True,
        )
        stats.initialize(factory=lambda: client, export_legacy_names=False)
        try:
            yield MetricLines(receiver)
        finally:
            client.statsd.close()
            stats.initialize(factory=NoStatsLogger, export_legacy_names=False)
