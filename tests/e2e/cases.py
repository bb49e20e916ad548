"""A case is a way for things to go wrong, and how many charges the rules allow for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.e2e.conftest import House


@dataclass(frozen=True)
class Case:
    """
    :param what: what goes wrong.
    :param dag_id: of ``dags/money.py``.
    :param state: the run's, in the end.
    :param charges: how many the API's books may show, refunds included.
    :param die: where the first try's process is killed.
    :param fault: of the emulator, for this prompt only.
    """

    what: str
    dag_id: str
    state: str
    charges: int
    die: str = ""
    fault: str = ""


def play(house: House, cases: Sequence[Case]) -> list[str]:
    """Run all cases at once and print the table; the rows that aren't as they should be."""
    rows = [("case", "DAG", "state", "expected", "charges", "expected")]
    wrong = []
    for batch in house.batches(cases):
        started = []
        for case in batch:
            prompt = house.prompt(case.what)
            if case.fault:
                house.emulator.fault(f"{case.fault};match={prompt}")
            started.append((case, prompt, house.start(case.dag_id, prompt, die=case.die)))
        for case, prompt, run_id in started:
            state = house.finish(case.dag_id, run_id, timeout=300)
            charges = len(house.charges(prompt))
            rows.append((case.what, case.dag_id, state, case.state, str(charges), str(case.charges)))
            if (state, charges) != (case.state, case.charges):
                wrong.append(" | ".join(rows[-1]))
                print(house.log(case.dag_id, run_id))
    print_table(rows)
    return wrong


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """One line for each row, its columns below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print("\n" + "\n".join("  ".join(map(str.ljust, row, widths)) for row in rows))
