"""
One task instance on Airflow's side: its state store, its tries, retries, clears and deferrals, one after the
other.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from airflow.sdk.exceptions import TaskDeferred

EVENT = {"reason": "finished", "generation_ids": {}}


class DiedError(BaseException):
    """The worker is dead: nothing of it runs on, so no ``except Exception`` may see this."""


def in_a_database(value: Any) -> str:
    """JSON as Airflow keeps it, if PostgreSQL takes it: it refuses NUL and half a surrogate pair."""
    text = json.dumps(value, allow_nan=False)
    plain = json.dumps(json.loads(text), ensure_ascii=False)
    assert "\\u0000" not in plain
    assert plain.encode()
    return text


class StateStore:
    """
    Airflow's task state store of one task instance: JSON in, JSON out.

    A worker gets an accessor of it (:meth:`accessor`), which is refused once the task instance has another
    id. What befalls the store is set on it:

    :param unreachable: the API server doesn't answer.
    :param at: what happens at the n-th write of a try: ``die before 2``, ``die after 2``, ``fail 2``, or
        ``lost 2``: it is written, and the answer lost. It happens once.
    :param unreadable: asked at each read: whether the API server doesn't answer it.
    :param befalls: called at each write of a try, with its number, before anything else happens.
    """

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.retentions: dict[str, Any] = {}
        self.unreachable = False
        self.at = ""
        self.unreadable: Callable[[], bool] = lambda: False
        self.befalls: Callable[[int], object] = lambda number: None
        self.writes = 0
        self.reads = 0
        self.newest: object = None

    def accessor(self) -> StateStoreAccessor:
        """What the worker of the next try has; those before it are out of date."""
        self.newest, self.writes, self.reads = object(), 0, 0
        return StateStoreAccessor(self, self.newest)

    def replace(self) -> None:
        """Let a retry or a clear replace the task instance: who has an accessor now is out of date."""
        self.newest = object()

    def empty(self) -> None:
        """As a clear does it on Airflow 3.4, or a person in the UI."""
        self.texts.clear()


class StateStoreAccessor:
    """The store as one try of the task instance sees it."""

    def __init__(self, store: StateStore, identity: object) -> None:
        self._store, self._identity = store, identity

    def get(self, key: str, default: Any = None) -> Any:
        store = self._store
        store.reads += 1
        if store.unreachable or store.unreadable():
            raise ConnectionError("the API server does not answer")
        # Airflow answers a replaced task instance as if nothing were stored.
        return (
            json.loads(store.texts[key]) if self._identity is store.newest and key in store.texts else default
        )

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        store = self._store
        assert "/" not in key, "Airflow 3.3.0 answers 404"
        assert "." not in key, "Airflow 3.3.0 answers 404"
        if value is None:
            raise ValueError("Cannot set value as None")
        store.writes += 1
        store.befalls(store.writes)
        self._befall("die before", DiedError())
        self._befall("fail", RuntimeError("the API server answered 500"))
        if store.unreachable:
            raise ConnectionError("the API server does not answer")
        if self._identity is not store.newest:
            raise RuntimeError("TASK_STORE_NOT_FOUND: 404")
        store.texts[key], store.retentions[key] = in_a_database(value), retention
        self._befall("die after", DiedError())
        self._befall("lost", ConnectionError("the API server's answer did not arrive"))

    def _befall(self, what: str, error: BaseException) -> None:
        if self._store.at == f"{what} {self._store.writes}":
            self._store.at = ""
            raise error


class TaskInstance:
    """
    A task instance that is run try by try, as Airflow does it.

    :param operator: makes the operator, parsed and rendered, from the options given to :meth:`run`: it is
        made anew for each part of a try.
    :param deferral_pause: seconds between a deferral and its trigger's event.
    :ivar while_deferred: is called in between.
    :ivar while_waiting: likewise, with the seconds until the trigger's first poll.
    """

    def __init__(
        self,
        operator: Callable[..., Any],
        *,
        dag_id: str = "posters",
        task_id: str = "poster",
        map_index: int = -1,
        retries: int = 3,
        deferral_pause: float = 0.03,
    ) -> None:
        self.operator = operator
        self.dag_id, self.task_id, self.map_index = dag_id, task_id, map_index
        self.run_id = "manual__2026-01-01T00:00:00+00:00"
        self.retries = self.max_tries = retries
        self.try_number = self.reschedules = self.clears = 0
        self.loop_index: int | None = None
        self.ti_id = ""
        self.deferral_pause = deferral_pause
        self.while_deferred: Callable[[], object] = lambda: None
        self.while_waiting: Callable[[float], object] = lambda seconds: None
        self.store = StateStore()
        self.accessor = self.store.accessor()
        self.xcoms: dict[str, Any] = {}
        self.pushed: dict[str, Any] = {}
        self.states: dict[str, Any] = {}
        self.deferrals: list[TaskDeferred] = []
        self.events: Any = defaultdict(lambda: SimpleNamespace(extra={}))

    @property
    def context(self) -> dict[str, Any]:
        """What Airflow hands to ``execute`` and to the method that resumes it."""
        ti = SimpleNamespace(
            id=self.ti_id,
            dag_id=self.dag_id,
            run_id=self.run_id,
            task_id=self.task_id,
            map_index=self.map_index,
            try_number=self.try_number,
            max_tries=self.max_tries,
            xcom_pull=lambda task_ids, **_: self.xcoms[task_ids],
            xcom_push=lambda key, value: self.pushed.update({key: json.loads(in_a_database(value))}),
            get_task_states=self._task_states,
        )
        looped = {} if self.loop_index is None else {"loop": SimpleNamespace(index=self.loop_index)}
        return {
            "ti": ti,
            "task_instance": ti,
            "run_id": self.run_id,
            "ds": "2026-11-24",
            "dag_run": SimpleNamespace(run_id=self.run_id, clear_number=self.clears),
            "task_reschedule_count": self.reschedules,
            "task_state_store": self.accessor,
            "outlet_events": self.events,
            **looped,
        }

    def _task_states(self, dag_id: str, **asked: Any) -> dict[str, Any]:
        """As ``ti.get_task_states``; ``states`` has them by run id."""
        return {run_id: self.states[run_id] for run_id in asked["run_ids"] if run_id in self.states}

    def begin(self, **options: Any) -> Any:
        """The first part of a try: what it returns, raises or defers with."""
        self.try_number += 1
        self.reschedules = 0
        self.ti_id, self.accessor = str(uuid4()), self.store.accessor()
        self.pushed.clear()
        return self.operator(**options).execute(self.context)

    def run(self, **options: Any) -> Any:
        """One try: what it returns, or what it raises."""
        try:
            return self.begin(**options)
        except TaskDeferred as deferral:
            return self.wake(deferral, **options)

    def wake(self, deferral: TaskDeferred, event: Any = EVENT, **options: Any) -> Any:
        """Go on after a deferral, and after those that follow."""
        give_up_at = time.monotonic() + 120
        while time.monotonic() < give_up_at:
            self.deferrals.append(deferral)
            time.sleep(self.deferral_pause)
            self.while_waiting(deferral.trigger.first_poll_at - time.time())
            self.while_deferred()
            try:
                return getattr(self.operator(**options), deferral.method_name)(self.context, event)
            except TaskDeferred as again:
                deferral = again
        raise AssertionError("it never came to an end")

    def clear(self, *, airflow: str = "3.3") -> None:
        """As Airflow does it: the tries that are left begin anew. 3.4 empties the task state store."""
        self.max_tries = self.try_number + self.retries
        self.clears += 1
        if airflow == "3.4":
            self.store.empty()

    def new_run(self) -> None:
        """The same task in another run, which knows nothing of this one."""
        self.run_id += "+1"
        self.max_tries = self.retries
        self.try_number = self.clears = 0
        self.store = StateStore()
        self.accessor = self.store.accessor()
