"""Tell events to listeners. One that fails harms nobody, least of all the task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from airflow_gpt_image.errors import ERROR_REFERENCE, GptImageError
from airflow_gpt_image.events import Event, Progressed, Submitted
from airflow_gpt_image.events.metrics import Metrics
from airflow_gpt_image.log import Log

Listener = Callable[[Event], object]


class Teller:
    """
    Tell each event to each listener.

    :param log: gets a warning when a listener fails, once for each.
    """

    def __init__(self, listeners: Sequence[Listener], log: Log) -> None:
        self._listeners: Final = tuple(listeners)
        self._log = log
        self._failed: set[int] = set()

    def __call__(self, *events: Event) -> None:
        """Tell events; nothing is raised."""
        for index, listener in enumerate(self._listeners):
            try:
                for event in events:
                    listener(event)
            except Exception as error:  # noqa: BLE001  # an image is worth more than a number about it
                if index not in self._failed:
                    self._failed.add(index)
                    self._log.warning(
                        "Events can't be told to %s: %s: %s\nThe task goes on without; this is said once.",
                        getattr(listener, "__qualname__", type(listener).__qualname__),
                        type(error).__name__,
                        error,
                    )


class Lines:
    """
    Log events, for people.

    :param each: whether each image has a line; not where they are thousands.
    """

    def __init__(self, log: Log, *, each: bool) -> None:
        self._log, self._each = log, each

    def __call__(self, event: Event) -> None:
        """Log one event, if there is a line for it."""
        if isinstance(event, Progressed):
            self._log.info("%s", event)
        elif isinstance(event, Submitted) and self._each:
            self._log.info(
                "Submitted: %s, %s, $%s (generation %s).",
                event.size,
                event.resolution,
                event.usd,
                event.generation_id,
            )


class OfTask(Protocol):
    """Says which task it is."""

    @property
    def dag_id(self) -> str: ...

    @property
    def task_id(self) -> str: ...


def task_teller(log: Log, task: OfTask, conn_id: str, *, each: bool) -> Teller:
    """
    Return what tells the events of a task on its worker.

    :param each: as of :class:`Lines`.
    """
    where = {"conn_id": conn_id, "dag_id": task.dag_id, "task_id": task.task_id}
    return Teller([Lines(log, each=each), Metrics(where)], log)


_CODES: Final = frozenset(code for _, code in ERROR_REFERENCE)


def code_of(error: GptImageError) -> str:
    """Return the API's code of an error; its class where the API gave none, or none that it documents."""
    # Whatever else the API says would make as many metrics as it has words.
    return error.code if error.code in _CODES else type(error).__name__
