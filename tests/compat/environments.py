"""The rows, and the virtual environment of each, kept in ``.compat`` until what is in it changes."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).parents[2]
CACHE = PROJECT / ".compat"
_TAKES_LONGEST = 900  # seconds, for an environment that has to be downloaded first


class Row(NamedTuple):
    """
    An environment to try the wheel in.

    :param name: What it is called on the command line and in the table.
    :param constraints: Its pinned versions.
    :param python: The name of its interpreter; the one we run on when None.
    """

    name: str
    constraints: Path
    python: str | None = None


_PINNED = PROJECT / "constraints.txt"
ROWS = (
    Row("lowest", PROJECT / "constraints" / "lowest.txt"),
    Row("pinned", _PINNED),
    Row("newest", PROJECT / "constraints" / "newest.txt"),
    Row("python3.12", _PINNED, "python3.12"),
    Row("python3.13", _PINNED, "python3.13"),
)


class CommandFailedError(RuntimeError):
    """A command ended with an error; its message is what the command said."""


def run(command: Sequence[object], *, cwd: Path, env: dict[str, str] | None = None) -> str:
    """
    Run a command to its end and return what it printed.

    :raises CommandFailedError: when it fails, or takes longer than a quarter of an hour.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words, cwd=cwd, env=env, capture_output=True, text=True, timeout=_TAKES_LONGEST, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise CommandFailedError(f"{' '.join(words)} took longer than {_TAKES_LONGEST} s.") from error
    if done.returncode != 0:
        said = f"{done.stdout}\n{done.stderr}".strip()
        raise CommandFailedError(f"{' '.join(words)} ended with {done.returncode}:\n{said[-4000:]}")
    return done.stdout


def pins(constraints: Path) -> dict[str, str]:
    """Return the versions that a constraints file pins for every environment, by package name."""
    lines = constraints.read_text().splitlines()
    return dict(line.split("==") for line in lines if re.fullmatch(r"[\w.-]+==[\w.]+", line))


def floors() -> dict[str, str]:
    """Return the lowest versions that ``pyproject.toml`` allows, by package name."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["emulator"]]
    found = (re.match(r"([\w-]+)>=([\d.]+)", requirement) for requirement in needed)
    return {match[1]: match[2] for match in found if match}


def floors_that_are_not_tried() -> list[str]:
    """Return what is wrong when the row ``lowest`` has other versions than the lowest allowed ones."""
    tried = pins(ROWS[0].constraints)
    return [
        f"pyproject.toml allows {name} {floor}; {ROWS[0].constraints.name} tries {tried.get(name)}."
        for name, floor in floors().items()
        if _padded(tried.get(name, "0")) != _padded(floor)
    ]


def newer_airflow() -> str | None:
    """Return the newest Airflow of the package index, pre-releases included, when no row tries it."""
    command = [sys.executable, "-m", "pip", "index", "versions", "--pre", "apache-airflow"]
    command += ["--retries", "0", "--timeout", "15"]
    try:
        answer = run(command, cwd=PROJECT)
    except CommandFailedError:
        return None  # Some indexes don't answer this question.
    newest = re.match(r"apache-airflow \(([\w.]+)\)", answer)
    tried = {pins(row.constraints)["apache-airflow"] for row in ROWS}
    return newest[1] if newest and newest[1] not in tried else None


def find_python(name: str) -> Path | None:
    """
    Return an interpreter of that name that runs; None when there is none.

    A name on the PATH proves nothing: pyenv has shims for versions that are not switched on. Those versions
    are looked for where it keeps them.
    """
    probe = "import ctypes, sqlite3, ssl, sys, venv; print('python{0}.{1}'.format(*sys.version_info))"
    for candidate in _candidates(name):
        try:
            done = subprocess.run(
                [candidate, "-c", probe], capture_output=True, text=True, timeout=60, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0 and done.stdout.strip() == name:
            return candidate
    return None


def build_wheel() -> Path:
    """Build the wheel from the project as it is."""
    folder = CACHE / "dist"
    shutil.rmtree(folder, ignore_errors=True)
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", folder]
    run(build, cwd=PROJECT)
    (wheel,) = folder.glob("*.whl")
    return wheel


def install(row: Row, python: Path, wheel: Path) -> Path:
    """
    Install the wheel into the row's environment, made anew unless it is what it should be.

    :return: The environment's interpreter.
    :raises CommandFailedError: when it can't be made, or its packages don't go together.
    """
    home = CACHE / row.name
    inside, stamp = home / "bin" / "python", home / "made-from"
    version = run([python, "-c", "import sys; print(sys.version)"], cwd=PROJECT)
    dependencies = (PROJECT / "pyproject.toml").read_text().partition("[project.entry-points")[0]
    made_from = hashlib.sha256(
        "\0".join([version, str(python), str(home), row.constraints.read_text(), dependencies]).encode()
    ).hexdigest()
    pip = [sys.executable, "-m", "pip", "--python", inside]
    quietly = ["install", "--quiet", "--disable-pip-version-check"]
    if not (stamp.exists() and stamp.read_text() == made_from):
        shutil.rmtree(home, ignore_errors=True)
        run([python, "-m", "venv", "--without-pip", home], cwd=PROJECT)
        # A pre-release has to be asked for by its number.
        airflow = f"apache-airflow=={pins(row.constraints)['apache-airflow']}"
        wanted = ["--constraint", row.constraints, airflow, "pytest", f"{wheel}[emulator]"]
        run([*pip, *quietly, *wanted], cwd=PROJECT)
        run([*pip, "check"], cwd=PROJECT)
        stamp.write_text(made_from)
    run([*pip, *quietly, "--no-deps", "--force-reinstall", wheel], cwd=PROJECT)
    return inside


def _candidates(name: str) -> Iterator[Path]:
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        if (found := Path(folder) / name).exists():
            yield found
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    yield from sorted(pyenv.glob(f"{name.removeprefix('python')}.*/bin/{name}"), reverse=True)


def _padded(version: str) -> list[int]:
    numbers = [int(number) for number in version.split(".")]
    return [*numbers, 0, 0, 0][:3]
