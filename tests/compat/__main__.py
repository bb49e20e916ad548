"""``python -m tests.compat``: one table of what was tried where; the exit code says if it held."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import NamedTuple

from stack.airflow import ComponentDiedError
from stack.demo import say
from stack.processes import sigterm_as_exit
from tests.compat import environments, smoke
from tests.compat.environments import ROWS, CommandFailedError, Row
from tests.compat.smoke import Result

_COLUMNS = (
    "row",
    "Airflow",
    "Python",
    "httpx",
    "pydantic",
    "what ran",
    "charges",
    "cleared",
    "due",
    "images",
    "s",
)


class Line(NamedTuple):
    """
    A line of the table.

    :param row: The environment's name.
    :param versions: Airflow, Python, httpx, pydantic.
    :param result: What ran there.
    """

    row: str
    versions: tuple[str, ...]
    result: Result


def main() -> int:
    """Try the wheel in every row, one after the other."""
    parser = argparse.ArgumentParser(prog="python -m tests.compat", description=__doc__)
    names = [row.name for row in ROWS]
    parser.add_argument("--row", action="append", choices=names, help="only this one; may be given again")
    chosen = parser.parse_args().row or names
    lines: list[Line] = []
    missing: list[str] = []
    problems = environments.floors_that_are_not_tried()
    began = time.monotonic()
    with sigterm_as_exit():
        wheel = environments.build_wheel()
        for row in ROWS:
            if row.name not in chosen:
                continue
            python = _interpreter(row)
            if python is None:
                missing.append(f"{row.name}: {row.python} isn't installed here, or doesn't run.")
                continue
            lines += _try(row, python, wheel, problems)
    _print_table(lines)
    for reason in missing:
        say(f"Not tried: {reason}")
    if newer := environments.newer_airflow():
        say(f"Not tried: Airflow {newer}, which is out. Pin it in constraints/newest.txt.")
    for problem in problems:
        say(f"PROBLEM: {problem}")
    failed = sum(bool(line.result.problems) for line in lines)
    say(f"{len(lines)} cases in {time.monotonic() - began:.0f} s.")
    say(f"{len(lines) - failed} passed, {failed} failed")
    return 1 if problems or not lines else 0


def _interpreter(row: Row) -> Path | None:
    return Path(sys.executable) if row.python is None else environments.find_python(row.python)


def _try(row: Row, python: Path, wheel: Path, problems: list[str]) -> list[Line]:
    """Run everything in one row; what is wrong goes to the problems."""
    began = time.monotonic()
    lines: list[Line] = []
    versions: tuple[str, ...] = ("", "", "", "")
    try:
        inside = environments.install(row, python, wheel)
        say(f"{row.name}: installed after {time.monotonic() - began:.0f} s")
        found, result = smoke.check_installed(inside)
        versions = (found["apache-airflow"], found["python"], found["httpx"], found["pydantic"])
        lines.append(Line(row.name, versions, result))
        lines += [Line(row.name, versions, result) for result in smoke.run_cases(inside)]
    except (CommandFailedError, ComponentDiedError, TimeoutError) as error:
        broken = Result("(broken off)", None, None, None, None, time.monotonic() - began, [str(error)])
        lines.append(Line(row.name, versions, broken))
    problems += [f"{row.name}, {line.result.what}: {each}" for line in lines for each in line.result.problems]
    say(f"{row.name}: done after {time.monotonic() - began:.0f} s")
    return lines


def _print_table(lines: list[Line]) -> None:
    table = [_COLUMNS, *(_cells(line) for line in lines)]
    widths = [max(len(cells[column]) for cells in table) for column in range(len(_COLUMNS))]
    for cells in table:
        say("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())


def _cells(line: Line) -> tuple[str, ...]:
    what, charges, cleared, due, images, seconds, problems = line.result
    counts = ("" if count is None else str(count) for count in (charges, cleared, due, images))
    return (line.row, *line.versions, what, *counts, f"{seconds:.0f}{'  WRONG' if problems else ''}")


if __name__ == "__main__":
    sys.exit(main())
