"""
Airflow's public REST API, as far as tests and demonstrations need it.

Requests go past any proxy. Waits are bounded, and end in a TimeoutError that tells what was seen last.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

_T = TypeVar("_T")

# Where in a loop or an expansion a task instance stands: its ``region_id`` and ``region_index``.
Region = tuple[str, int]

_FINAL_RUN_STATES = frozenset({"success", "failed"})
_POLL_INTERVAL = 0.3
_DATABASE_PATIENCE = 30.0

# On every line of a task's log, and known to whoever asked for it.
_LOG_CONTEXT = (
    *("dag_id", "run_id", "task_id", "map_index", "try_number", "ti_id"),
    *("logger", "filename", "lineno"),
)


class ApiError(RuntimeError):
    """
    Airflow refused a request.

    :param answer: What it said.
    """

    def __init__(self, answer: httpx.Response) -> None:
        request, self.status_code = answer.request, answer.status_code
        super().__init__(
            f"{request.method} {request.url.path} answered {self.status_code}: {answer.text[:1000]}"
        )


class AirflowRestApi:
    """
    A client that logs in by itself.

    :param url: Root of the api-server, without a slash at the end.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        # For requests that want to see a refusal or send other credentials; it adds none.
        self.client = httpx.Client(base_url=url, timeout=30, trust_env=False)
        self._token: str | None = None
        self._version: tuple[int, int] | None = None

    # Requests -------------------------------------------------------------------------------------------

    @property
    def token(self) -> str:
        """A bearer token; it needs no credentials where everybody is an administrator."""
        if self._token is None:
            answer = self.client.get("/auth/token")
            if answer.is_error:
                raise ApiError(answer)
            self._token = str(answer.json()["access_token"])
        return self._token

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """
        Send one request as an administrator.

        :param path: From the root of the server, such as ``/api/v2/dags``.
        :param options: For ``httpx.Client.request``.
        :raises ApiError: for a status of 400 or more.
        """
        headers = {"Authorization": f"Bearer {self.token}", **options.pop("headers", {})}
        give_up_at = time.monotonic() + _DATABASE_PATIENCE
        while True:
            answer = self.client.request(method, path, headers=headers, **options)
            locked = answer.status_code == 500 and "Database error" in answer.text
            if not locked or time.monotonic() > give_up_at:
                break
            # sqlite has one writer: Airflow undoes what it was at, and says so.
            time.sleep(_POLL_INTERVAL)
        if answer.is_error:
            raise ApiError(answer)
        return answer

    def health(self) -> dict[str, Any]:
        answer = self.client.get("/api/v2/monitor/health", timeout=5)
        if answer.is_error:
            raise ApiError(answer)
        return _dict(answer)

    @property
    def version(self) -> tuple[int, int]:
        """The minor version of Airflow that answers, such as ``(3, 4)``."""
        if self._version is None:
            major, minor = str(_dict(self.request("GET", "/api/v2/version"))["version"]).split(".")[:2]
            self._version = int(major), int(minor)
        return self._version

    def import_errors(self) -> list[dict[str, Any]]:
        """DAG files that cannot be parsed, with ``filename`` and ``stack_trace``."""
        return _list(self.request("GET", "/api/v2/importErrors", params={"limit": 100}), "import_errors")

    def test_connection(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Test a connection as the "Test" button does; return ``status`` and ``message``."""
        return _dict(self.request("POST", "/api/v2/connections/test", json=dict(body)))

    # DAGs and runs --------------------------------------------------------------------------------------

    def wait_for_dag(self, dag_id: str, *, timeout: float = 60) -> dict[str, Any]:
        """Wait until the DAG has been parsed."""

        def look() -> tuple[bool, Any]:
            try:
                return True, _dict(self.request("GET", f"/api/v2/dags/{_quoted(dag_id)}"))
            except ApiError as error:
                if error.status_code != 404:
                    raise
                return False, self.import_errors() or "neither the DAG nor an import error"

        return dict(self._wait(f"DAG {dag_id!r} to be parsed", look, timeout))

    def unpause(self, dag_id: str) -> None:
        self.request("PATCH", f"/api/v2/dags/{_quoted(dag_id)}", json={"is_paused": False})

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None, run_id: str | None = None) -> str:
        """
        Start a run.

        :return: The run id, Airflow's own if none was given.
        """
        body: dict[str, Any] = {"logical_date": None, "conf": dict(conf or {})}
        if run_id is not None:
            body["dag_run_id"] = run_id
        path = f"/api/v2/dags/{_quoted(dag_id)}/dagRuns"
        return str(_dict(self.request("POST", path, json=body))["dag_run_id"])

    def run_state(self, dag_id: str, run_id: str) -> str:
        return str(_dict(self.request("GET", _run_path(dag_id, run_id)))["state"])

    def wait_for_run(
        self, dag_id: str, run_id: str, timeout: float = 120, on_poll: Callable[[str], None] | None = None
    ) -> str:
        """
        Wait until the run has ended.

        :param timeout: Seconds.
        :param on_poll: Is called with the state after each look, and may raise to end the wait.
        :return: ``success`` or ``failed``.
        """

        def look() -> tuple[bool, str]:
            state = self.run_state(dag_id, run_id)
            if on_poll is not None:
                on_poll(state)
            return state in _FINAL_RUN_STATES, state

        def states() -> dict[str, Any]:
            return {_name(each): each["state"] for each in self.task_instances(dag_id, run_id)}

        return self._wait(f"run {run_id!r} of {dag_id!r} to end", look, timeout, describe=states)

    def wait_for_runs(self, dag_id: str, *, count: int, timeout: float = 60) -> list[str]:
        """
        Wait until a DAG has had so many runs, as of one that is scheduled on an asset; their ids.

        :param timeout: Seconds.
        """

        def look() -> tuple[bool, list[str]]:
            answer = self.request("GET", f"/api/v2/dags/{_quoted(dag_id)}/dagRuns")
            found = [str(run["dag_run_id"]) for run in _list(answer, "dag_runs")]
            return len(found) >= count, found

        return self._wait(f"{count} run(s) of {dag_id!r}", look, timeout)

    # Task instances -------------------------------------------------------------------------------------

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """All task instances of the run, mapped ones each for itself."""
        path = f"{_run_path(dag_id, run_id)}/taskInstances"
        found: list[dict[str, Any]] = []
        while True:
            answer = self.request("GET", path, params={"limit": 100, "offset": len(found)})
            page = _list(answer, "task_instances")
            found += page
            if not page or len(found) >= _dict(answer)["total_entries"]:
                return found

    def task_instance(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> dict[str, Any]:
        path = _task_path(dag_id, run_id, task_id)
        return _dict(self.request("GET", path if map_index < 0 else f"{path}/{map_index}"))

    def wait_for_task(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        states: str | Collection[str],
        map_index: int = -1,
        timeout: float = 60,
    ) -> dict[str, Any]:
        """
        Wait until the task instance is seen in one of the states. One that passes quickly may be missed.

        :param timeout: Seconds.
        :return: The task instance as it was then.
        """
        wanted = {states} if isinstance(states, str) else set(states)

        def look() -> tuple[bool, Any]:
            try:
                found = self.task_instance(dag_id, run_id, task_id, map_index)
            except ApiError as error:
                if error.status_code != 404:  # A mapped instance appears when its upstream is done.
                    raise
                return False, error
            return found["state"] in wanted, found

        what = f"{dag_id}.{task_id}[{map_index}] of run {run_id!r} to be {' or '.join(sorted(wanted))}"
        return dict(self._wait(what, look, timeout))

    def xcom(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        map_index: int = -1,
        key: str = "return_value",
        region: Region | None = None,
    ) -> Any:
        """
        The value as the database has it.

        :param region: Of the task instance, as :func:`region_of` returns it; only loops need one.
        """
        path = f"{_task_path(dag_id, run_id, task_id)}/xcomEntries/{_quoted(key)}"
        return _dict(self.request("GET", path, params=_instance(map_index, region)))["value"]

    def log(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        try_number: int = 1,
        map_index: int = -1,
        region: Region | None = None,
    ) -> str:
        """
        The task's log, one line per entry, without what is the same in all of them.

        :param region: Of the task instance, as :func:`region_of` returns it; only loops need one.
        """
        path = f"{_task_path(dag_id, run_id, task_id)}/logs/{try_number}"
        params = {**_instance(map_index, region), "full_content": True}
        content = _dict(self.request("GET", path, params=params))["content"]
        return "\n".join(_log_line(line) for line in content)

    def clear(
        self,
        dag_id: str,
        run_id: str,
        task_ids: Sequence[str | tuple[str, int]],
        *,
        keep_task_state: bool = False,
        **options: Any,
    ) -> list[dict[str, Any]]:
        """
        Clear tasks of the run, whatever their state; ``(task_id, map_index)`` addresses one mapped instance.

        :param keep_task_state: Keep the tasks' state stores. Airflow 3.4 empties them otherwise; 3.3 never
            does, and refuses the question.
        :param options: Fields of the request, such as ``include_downstream`` or ``only_failed``.
        :return: The task instances that were cleared.
        """
        body = {
            "dry_run": False,
            "only_failed": False,
            "dag_run_id": run_id,
            "task_ids": list(task_ids),
            **({"keep_task_state": True} if keep_task_state and self.version >= (3, 4) else {}),
            **options,
        }
        answer = self.request("POST", f"/api/v2/dags/{_quoted(dag_id)}/clearTaskInstances", json=body)
        return _list(answer, "task_instances")

    def set_task_state(self, dag_id: str, run_id: str, task_id: str, state: str, map_index: int = -1) -> None:
        """Mark it ``success``, ``failed`` or ``skipped``, as the web page's buttons do."""
        path = _task_path(dag_id, run_id, task_id)
        self.request("PATCH", path if map_index < 0 else f"{path}/{map_index}", json={"new_state": state})

    def task_state_store(
        self, dag_id: str, run_id: str, task_id: str, map_index: int = -1, region: Region | None = None
    ) -> dict[str, Any]:
        """
        Everything the task has put into its state store.

        :param region: Of the task instance, as :func:`region_of` returns it; only loops need one.
        """
        path = f"{_task_path(dag_id, run_id, task_id)}/state-store"
        answer = self.request("GET", path, params={**_instance(map_index, region), "limit": 100})
        return {each["key"]: each["value"] for each in _list(answer, "task_state_store")}

    # Waiting --------------------------------------------------------------------------------------------

    def _wait(
        self,
        what: str,
        look: Callable[[], tuple[bool, _T]],
        timeout: float,
        *,
        describe: Callable[[], Any] | None = None,
    ) -> _T:
        """
        Look until the first half of the answer is true, and return the other half.

        A server that is away or in trouble is waited for: tests kill it on purpose.
        """
        deadline = time.monotonic() + timeout
        while True:
            seen: object
            try:
                done, value = look()
                if done:
                    return value
                seen = value
            except httpx.TransportError as error:
                seen = error
            except ApiError as error:
                if error.status_code < 500:
                    raise
                seen = error
            if time.monotonic() > deadline:
                more = f"; {describe()!r}" if describe is not None else ""
                raise TimeoutError(f"waited {timeout:.1f} s for {what}; seen last: {seen!r}{more}")
            time.sleep(_POLL_INTERVAL)


def region_of(task_instance: Mapping[str, Any]) -> Region | None:
    """
    Return what tells a task instance from those of other iterations; None outside of loops.

    :param task_instance: As :meth:`AirflowRestApi.task_instances` returns it. Before 3.4 there are no loops.
    """
    if not task_instance.get("in_loop"):
        return None
    return str(task_instance["region_id"]), int(task_instance["region_index"])


def _instance(map_index: int, region: Region | None) -> dict[str, Any]:
    if region is None:
        return {"map_index": map_index}
    return {"map_index": map_index, "region_id": region[0], "region_index": region[1]}


def _quoted(part: str) -> str:
    """Run ids contain colons and pluses, so a path has no safe characters."""
    return quote(part, safe="")


def _run_path(dag_id: str, run_id: str) -> str:
    return f"/api/v2/dags/{_quoted(dag_id)}/dagRuns/{_quoted(run_id)}"


def _task_path(dag_id: str, run_id: str, task_id: str) -> str:
    return f"{_run_path(dag_id, run_id)}/taskInstances/{_quoted(task_id)}"


def _dict(answer: httpx.Response) -> dict[str, Any]:
    return dict(answer.json())


def _list(answer: httpx.Response, key: str) -> list[dict[str, Any]]:
    return list(answer.json()[key])


def _name(task_instance: Mapping[str, Any]) -> str:
    index = task_instance["map_index"]
    return str(task_instance["task_id"]) + (f"[{index}]" if index >= 0 else "")


def _log_line(line: str | Mapping[str, Any]) -> str:
    if isinstance(line, str):
        return line
    words = [line[field] for field in ("timestamp", "level", "event") if line.get(field) is not None]
    known = {"timestamp", "level", "event", *_LOG_CONTEXT}
    if rest := {field: value for field, value in line.items() if field not in known and value is not None}:
        words.append(json.dumps(rest, ensure_ascii=False))
    return " ".join(words)
