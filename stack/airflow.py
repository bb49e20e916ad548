"""The scratch Airflow: real components, started and stopped together, and killed one by one at will."""

from __future__ import annotations

import atexit
import contextlib
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from signal import SIGKILL
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self, TypeVar
from uuid import UUID

import psutil

from stack.environment import airflow_environment
from stack.postgres import ScratchPostgres
from stack.processes import Child, free_port, interruptions_held_back, is_free, stop
from stack.rest import AirflowRestApi

_T = TypeVar("_T")

# The api-server first: it takes longest to start.
_COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
_JOB_TYPES = {
    "scheduler": "SchedulerJob",
    "dag-processor": "DagProcessorJob",
    "triggerer": "TriggererJob",
}
_SUPERVISOR_TITLE = "airflow worker -- LocalExecutor: "
_TASK_TITLE = "airflow worker -- "


class ComponentDiedError(RuntimeError):
    """
    A component ended, and nobody had asked it to: the cause is in its log.

    :param name: Which one.
    :param returncode: Its exit code, negative for a signal.
    :param log: The end of its output.
    """

    def __init__(self, name: str, returncode: int | None, log: str) -> None:
        super().__init__(name, returncode, log)
        self.name = name
        self.returncode = returncode
        self.log = log

    def __str__(self) -> str:
        return f"airflow {self.name} ended by itself, with {self.returncode!r}:\n{self.log}"


class RunningTask(NamedTuple):
    """
    The two processes of a task that is being executed.

    Kill ``process`` and the supervisor reports the loss at once. Kill both, and only the missing heartbeat
    tells, half a minute later. Kill ``supervisor`` alone, and the task goes on with nobody to talk to.

    :param task_instance_id: ``id`` of the task instance in the REST API; every try has another.
    :param supervisor: The executor's worker, which talks to the api-server.
    :param process: Runs the operator. None until the supervisor has started it.
    """

    task_instance_id: str
    supervisor: int | None
    process: int | None


class ScratchAirflow(AirflowRestApi):
    """
    A context manager around a whole Airflow. Once stopped it cannot be started again; make another.

    :param home: Folder for the configuration, the logs and, with sqlite, the database. It stays afterwards.
    :param dags_folder: The DAGs. Trigger classes must come from an installed package or PYTHONPATH.
    :param database: ``postgres`` starts a server of its own, see :func:`stack.postgres.available`.
    :param env: Variables for all components. They win over ours, and nothing else is inherited.
    :param parallelism: Tasks that run at the same time; each costs a process from the start.
    :param port: Port of the api-server; a free one when None.
    :param path: Beneath which it is served, as behind a company's gateway, such as ``/team``.
    :param python: The interpreter of the environment whose Airflow is started; this one's when None. What is
        installed there is what runs; add to it with ``env={"PYTHONPATH": ...}``.
    :param heartbeat_timeout: Seconds without a sign of life after which a task counts as lost. Airflow's own
        default is 300. Airflow 3.4.0b2 loses its scheduler when a running task is cleared and goes on for
        longer than this.
    """

    def __init__(
        self,
        home: Path,
        *,
        dags_folder: Path,
        database: Literal["sqlite", "postgres"] = "sqlite",
        env: Mapping[str, str] | None = None,
        parallelism: int = 4,
        port: int | None = None,
        path: str = "",
        python: Path | None = None,
        heartbeat_timeout: float = 30,
    ) -> None:
        self.home = home.absolute()
        self.dags_folder = dags_folder.absolute()
        self.port = free_port() if port is None else port
        self.path = path
        super().__init__(f"http://127.0.0.1:{self.port}{path}")
        self._extra_env = dict(env or {})
        self._parallelism = parallelism
        # Links are not followed: an environment's python is one, and the programs are beside it.
        self._programs = Path(python or sys.executable).absolute().parent
        self._heartbeat_timeout = heartbeat_timeout
        self.database = database
        self._postgres = ScratchPostgres() if database == "postgres" else None
        self._env: dict[str, str] = {}
        self._components: dict[str, Child] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # Life -----------------------------------------------------------------------------------------------

    def start(self, *, timeout: float = 180) -> None:
        """
        Migrate the database and start the four components; returns when all are healthy.

        Whatever goes wrong, Ctrl-C included, nothing keeps running.

        :param timeout: Seconds for all of it.
        :raises OSError: when the port is taken.
        :raises ComponentDiedError: when a component or the migration fails.
        :raises TimeoutError: when they are not healthy in time.
        """
        if not is_free(self.port):
            raise OSError(f"port {self.port} is taken; leave the port out to get a free one")
        deadline = time.monotonic() + timeout
        # For whoever calls start() without a try: an interpreter that ends takes its processes along.
        atexit.register(self.stop)
        try:
            self._start(deadline)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End all processes, in little more than three seconds. Safe to call at any time, and twice."""
        with interruptions_held_back():
            try:
                # Enough for all of them to end in order, unless a task runs: the scheduler waits for those.
                stop(self._components.values(), patience=3)
                self._components.clear()
            finally:
                if self._postgres is not None:
                    self._postgres.stop()
                self.client.close()
                atexit.unregister(self.stop)

    def _start(self, deadline: float) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        if self._postgres is not None:
            self._postgres.start(timeout=deadline - time.monotonic())
            database_url = self._postgres.url
        else:
            # Four components and all tasks write: one waits for the other, and doesn't fail after 5 s.
            database_url = f"sqlite:///{self.home / 'airflow.db'}?timeout=20"
        common = airflow_environment(
            self.home,
            dags_folder=self.dags_folder,
            database_url=database_url,
            port=self.port,
            path=self.path,
            parallelism=self._parallelism,
            trigger_log_port=free_port(),
            worker_log_port=free_port(),
            programs=self._programs,
            heartbeat_timeout=self._heartbeat_timeout,
        )
        self._env = {**common, **self._extra_env}

        self._launch("db-migrate", "db", "migrate")
        migration = self._components["db-migrate"]
        if (returncode := migration.wait(deadline - time.monotonic())) != 0:
            raise ComponentDiedError(migration.name, returncode, migration.tail())
        del self._components["db-migrate"]

        for name in _COMPONENTS:
            self._launch(name, name)

        def look() -> tuple[bool, dict[str, Any]]:
            health = {name: part["status"] for name, part in self.health().items()}
            return set(health.values()) == {"healthy"}, health

        self._wait("all components to be healthy", look, deadline - time.monotonic())

    # Components -----------------------------------------------------------------------------------------

    def component(self, name: str) -> Child:
        """
        The process of a component.

        :param name: ``api-server``, ``scheduler``, ``dag-processor``, ``triggerer``, the name that
            :meth:`start_component` returned, or ``postgres`` where that is the database.
        """
        if name == "postgres" and self._postgres is not None:
            return self._postgres.server
        try:
            return self._components[name]
        except KeyError:
            raise KeyError(f"no component {name!r}; there are {sorted(self._components)!r}") from None

    def start_component(self, kind: str, *, instance: str = "", timeout: float = 60) -> str:
        """
        Start a component once more, next to the ones there are, and wait until it works.

        :param kind: ``scheduler``, ``dag-processor`` or ``triggerer``.
        :param instance: Tells it from the others of its kind.
        :return: The name for :meth:`component`, :meth:`kill` and :meth:`restart`: ``triggerer-2``.
        """
        if kind not in _JOB_TYPES:
            raise ValueError(f"a second {kind!r} is impossible; one of {sorted(_JOB_TYPES)!r} is not")
        name = f"{kind}-{instance}" if instance else kind
        if name in self._components and self._components[name].is_running:
            raise ValueError(f"component {name!r} is running already; give another instance")
        self._launch_and_wait(name, kind, timeout)
        return name

    def kill(self, name: str, signal: int = SIGKILL) -> None:
        """
        Send a signal to a component; SIGKILL, SIGSTOP and SIGCONT reach all its descendants too.

        Returns when they are gone, if the signal is SIGKILL.
        """
        if signal == SIGKILL:
            stop([self.component(name)], first=signal, patience=0)
        else:
            self.component(name).signal(signal)

    def restart(self, name: str, *, timeout: float = 60) -> None:
        """Stop a component, unless it is dead already, start it again and wait until it works."""
        stop([self.component(name)])
        kind = next(kind for kind in _COMPONENTS if name == kind or name.startswith(f"{kind}-"))
        self._launch_and_wait(name, kind, timeout)

    def check_components(self) -> None:
        """Raise a :class:`ComponentDiedError` if a component has ended without being asked to."""
        for name, child in self._components.items():
            if (returncode := child.returncode) is not None and not child.asked_to_end:
                raise ComponentDiedError(name, returncode, child.tail())

    def running_tasks(self) -> list[RunningTask]:
        """The tasks that are being executed now, by the titles that Airflow gives its processes."""
        supervisors: dict[str, int] = {}
        processes: dict[str, int] = {}
        for name, child in self._components.items():
            if not name.startswith("scheduler"):
                continue
            for process in child.family():
                title = _title(process)
                for prefix, found in ((_SUPERVISOR_TITLE, supervisors), (_TASK_TITLE, processes)):
                    if title.startswith(prefix) and _is_uuid(identity := title.removeprefix(prefix)):
                        found[identity] = process.pid
        return [
            RunningTask(identity, supervisors.get(identity), processes.get(identity))
            for identity in sorted(supervisors.keys() | processes.keys())
        ]

    def worker_pids(self) -> list[int]:
        """All processes that execute a task now, supervisors included."""
        return [pid for task in self.running_tasks() for pid in task[1:] if pid is not None]

    def _launch(self, name: str, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        with interruptions_held_back():
            self._components[name] = Child(
                name,
                [str(self._programs / "airflow"), *arguments],
                env={**self._env, **(env or {})},
                log=self.home / "components" / f"{name}.log",
                cwd=self.home,
            )

    def _launch_and_wait(self, name: str, kind: str, timeout: float) -> None:
        newest = self._newest_job(kind)
        # Two instances may not serve logs on one port.
        extra = {} if name == kind else {"AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port())}
        self._launch(name, kind, env=extra)

        def look() -> tuple[bool, object]:
            if kind in _JOB_TYPES:
                # Health would do, were it not for the dead: a killed component is healthy for 30 s more.
                return (latest := self._newest_job(kind)) > newest, f"newest job is {latest}"
            return True, self.health()

        self._wait(f"{name} to work", look, timeout)

    def _newest_job(self, kind: str) -> int:
        rows = self.sql(
            "select max(id) as id from job where job_type = :kind", {"kind": _JOB_TYPES.get(kind)}
        )
        return int(rows[0]["id"] or 0)

    def _wait(
        self,
        what: str,
        look: Callable[[], tuple[bool, _T]],
        timeout: float,
        *,
        describe: Callable[[], Any] | None = None,
    ) -> _T:
        """Wait as for any server, but not for a component that has failed."""

        def look_at_both() -> tuple[bool, _T]:
            self.check_components()
            return look()

        return super()._wait(what, look_at_both, timeout, describe=describe)

    # Behind the API -------------------------------------------------------------------------------------

    def sql(self, query: str, params: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """
        Ask the metadata database.

        :param query: With parameters as ``:name``.
        :return: The rows, by column name.
        """
        from sqlalchemy import create_engine, text
        from sqlalchemy.pool import NullPool

        engine = create_engine(self._env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"], poolclass=NullPool)
        with engine.begin() as connection:
            result = connection.execute(text(query), dict(params or {}))
            return [dict(row) for row in result.mappings()] if result.returns_rows else []

    def all_logs(self) -> str:
        """Everything that any component or task has written to a log: what a secret must not be found in."""
        files = [
            path for folder in ("logs", "components") for path in sorted((self.home / folder).rglob("*"))
        ]
        return "\n".join(
            f"==> {path.relative_to(self.home)} <==\n{path.read_text(errors='replace')}"
            for path in files
            if path.is_file()
        )


def _title(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline()).strip()
    return ""


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
