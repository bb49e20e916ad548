"""A PostgreSQL server for one test run: a temporary folder, a free loopback port, no durability."""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from stack.processes import Child, free_port, interruptions_held_back, stop

_PROGRAMS = ("initdb", "postgres", "createdb")
# Airflow opens an asynchronous engine too, whenever it is imported.
_DRIVERS = ("psycopg2", "asyncpg")
_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
}


def available() -> bool:
    """Whether there is a server to start, an account to run it, and the drivers that Airflow needs for it."""
    return (
        _programs_folder() is not None
        and _account_exists()
        and all(importlib.util.find_spec(driver) is not None for driver in _DRIVERS)
    )


class ScratchPostgres:
    """
    A context manager that runs the server; ``url`` is for SQLAlchemy with psycopg2.

    :param database: Name of the database to create.
    """

    def __init__(self, *, database: str = "airflow") -> None:
        self.database = database
        self.port = 0
        self._password = secrets.token_urlsafe(12)
        self._folder: Path | None = None
        self._server: Child | None = None

    @property
    def url(self) -> str:
        return f"postgresql+psycopg2://airflow:{self._password}@127.0.0.1:{self.port}/{self.database}"

    @property
    def server(self) -> Child:
        """The server's process, to freeze or kill it with all its connections."""
        if self._server is None:
            raise RuntimeError("the server is not running")
        return self._server

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, *, timeout: float = 60.0) -> None:
        """
        Make the data folder, start the server and create the database.

        :param timeout: Seconds for all of it.
        :raises RuntimeError: when PostgreSQL is not installed, or did not start; with the end of its log.
        """
        programs = _programs_folder()
        if programs is None or not _account_exists():
            raise RuntimeError(
                f"PostgreSQL's {', '.join(_PROGRAMS)} were not found, neither in PATH nor in "
                "/usr/lib/postgresql/*/bin, or there is no account 'postgres' to run them as instead of root"
            )
        try:
            self._start(programs, time.monotonic() + timeout)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server at once, without saving anything, and remove its folder."""
        with interruptions_held_back():
            if self._server is not None:
                # SIGQUIT is what `pg_ctl -m immediate stop` sends.
                stop([self._server], first=signal.SIGQUIT)
                self._server = None
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
                self._folder = None

    def _start(self, programs: Path, deadline: float) -> None:
        # Not below a folder of the caller's: the server's account could not enter, say, pytest's tmp_path.
        self._folder = folder = Path(tempfile.mkdtemp(prefix="scratch-postgres-"))
        data = folder / "data"
        password = folder / "password"
        password.write_text(self._password)
        user = "postgres" if os.getuid() == 0 else None
        if user is not None:
            for path in (folder, password):
                shutil.chown(path, user)
        env = {"PATH": f"{programs}:/usr/bin:/bin", "LC_ALL": "C"}
        log = folder / "log"

        # In the slot of the server, so that an interruption stops it too.
        with interruptions_held_back():
            self._server = Child(
                "initdb",
                [
                    *(str(programs / "initdb"), "--pgdata", str(data), "--username", "airflow"),
                    *(
                        "--pwfile",
                        str(password),
                        "--auth",
                        "scram-sha-256",
                        "--encoding",
                        "UTF8",
                        "--no-sync",
                    ),
                ],
                env=env,
                log=log,
                cwd=folder,
                user=user,
            )
        if self._server.wait(deadline - time.monotonic()) != 0:
            raise RuntimeError(f"initdb failed:\n{self._server.tail()}")
        password.unlink()

        self.port = free_port()
        settings = [f"--{name}={value}" for name, value in _SETTINGS.items()]
        with interruptions_held_back():
            self._server = Child(
                "postgres",
                [str(programs / "postgres"), "-D", str(data), "-p", str(self.port), *settings],
                env=env,
                log=log,
                cwd=folder,
                user=user,
            )
        self._create_database(programs / "createdb", env, deadline)

    def _create_database(self, createdb: Path, env: dict[str, str], deadline: float) -> None:
        """Doubles as the wait for the server: it fails until connections are accepted."""
        assert self._server is not None
        command = [str(createdb), "-h", "127.0.0.1", "-p", str(self.port), "-U", "airflow", self.database]
        while True:
            done = subprocess.run(
                command,
                check=False,
                env={**env, "PGPASSWORD": self._password, "PGDATABASE": "postgres", "PGCONNECT_TIMEOUT": "5"},
                capture_output=True,
                text=True,
                start_new_session=True,
            )
            if done.returncode == 0:
                return
            if not self._server.is_running or time.monotonic() > deadline:
                cause = done.stderr.strip()
                raise RuntimeError(f"PostgreSQL did not start on {self.port}: {cause}\n{self._server.tail()}")
            time.sleep(0.1)


def _programs_folder() -> Path | None:
    """Where the programs are. Debian keeps those of the server out of PATH; the newest release wins."""
    in_path = shutil.which("initdb")
    found = [Path(in_path).resolve().parent] if in_path else []
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_release, reverse=True)
    return next((folder for folder in found if all((folder / name).exists() for name in _PROGRAMS)), None)


def _release(folder: Path) -> float:
    try:
        return float(folder.parent.name)
    except ValueError:
        return 0.0


def _account_exists() -> bool:
    """PostgreSQL refuses to run as root, so root needs the account that packages make for it."""
    if os.getuid() != 0:
        return True
    return any(entry.pw_name == "postgres" for entry in pwd.getpwall())
