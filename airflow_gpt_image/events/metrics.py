"""Airflow's metrics of what happens: one table, which docs/metrics.md shows, and a listener that goes by it.

Names and tags are few, however many images there are: no id, no prompt, no message is among them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal

from airflow_gpt_image.events import (
    Event,
    Failed,
    Polled,
    RateLimited,
    Refused,
    Reused,
    Stored,
    Submitted,
    Unknown,
)

Kind = Literal["counter", "gauge", "timer"]


@dataclass(frozen=True)
class Metric:
    """
    One metric.

    :param unit: of its values. Airflow takes timers in milliseconds.
    :param values: reads them from an event of ``of``.
    :param tags: fields of the event that are tags, besides those that say where it happened.
    """

    name: str
    kind: Kind
    unit: str
    of: type[Event]
    values: Callable[[Any], Iterable[float]]
    tags: tuple[str, ...] = ()


METRICS: Final = (
    Metric("gpt_image.submitted", "counter", "images", Submitted, lambda event: (1,), ("resolution",)),
    Metric("gpt_image.refused", "counter", "submits", Refused, lambda event: (1,), ("code",)),
    Metric("gpt_image.unknown", "counter", "submits", Unknown, lambda event: (1,), ("resolution",)),
    Metric(
        "gpt_image.rate_limited", "counter", "calls", RateLimited, lambda event: (event.times,), ("call",)
    ),
    Metric("gpt_image.failed", "counter", "generations", Failed, lambda event: (1,), ("code",)),
    Metric("gpt_image.stored", "counter", "images", Stored, lambda event: (event.images,)),
    Metric("gpt_image.reused", "counter", "images", Reused, lambda event: (event.images,)),
    Metric(
        "gpt_image.charged", "counter", "credits", Submitted, lambda event: (event.credits,), ("resolution",)
    ),
    Metric(
        "gpt_image.charged", "counter", "credits", Unknown, lambda event: (event.credits,), ("resolution",)
    ),
    Metric("gpt_image.refunded", "counter", "credits", Failed, lambda event: (event.credits,), ("code",)),
    Metric("gpt_image.wait", "timer", "ms", Stored, lambda event: _known(event.seconds)),
    Metric("gpt_image.detection_lag", "timer", "ms", Polled, lambda event: event.lags),
    Metric("gpt_image.polls", "counter", "calls", Polled, lambda event: (event.polls,)),
    Metric("gpt_image.in_flight", "gauge", "generations", Polled, lambda event: (event.in_flight,)),
)
"""All of them. ``wait`` is from a submit to the stored image, ``detection_lag`` from the end of a generation
to the poll that found it."""


class Metrics:
    """
    Count events with Airflow's ``stats``, which sends them wherever ``[metrics]`` in its configuration says.

    :param where: tags that say where it happens.
    """

    def __init__(self, where: Mapping[str, str]) -> None:
        self._where = dict(where)

    def __call__(self, event: Event) -> None:
        """Count one event."""
        from airflow.sdk.observability import stats

        for metric in _BY_EVENT.get(type(event), ()):
            tags = self._where | {name: getattr(event, name) for name in metric.tags}
            for value in metric.values(event):
                if metric.kind == "timer":
                    stats.timing(metric.name, timedelta(seconds=value), tags=tags)
                elif metric.kind == "gauge":
                    stats.gauge(metric.name, value, tags=tags)
                elif value:
                    # A part of a credit: StatsD and OpenTelemetry count floats, too, and no Decimal.
                    stats.incr(metric.name, value if isinstance(value, int) else float(value), tags=tags)  # type: ignore[arg-type]


_BY_EVENT: Final[dict[type, tuple[Metric, ...]]] = {
    kind: tuple(metric for metric in METRICS if metric.of is kind)
    for kind in {metric.of for metric in METRICS}
}


def _known(seconds: float | None) -> Iterable[float]:
    return () if seconds is None else (seconds,)
