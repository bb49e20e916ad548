"""What importing costs: a DAG file is parsed over and over, and pays for its imports each time.

Every figure is a fresh process; the candidates take turns, so that a slow moment of the machine meets all
alike. What Airflow has loaded anyway is loaded before the clock starts. Ours is compiled before, as an
installation compiles it and the others.
"""

from __future__ import annotations

import compileall
import json
import statistics
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

ROUNDS = 7

# What every DAG file has imported before it comes to its operators.
BEFORE = "from airflow.sdk import DAG, BaseOperator"

OURS = "airflow_gpt_image.operators.gpt_image"
MADE = (
    f"from {OURS} import GptImageGenerateOperator\n"
    "GptImageGenerateOperator(task_id='poster', prompt='a red teapot', destination='/data/{{ ds }}')"
)
OPERATORS = [
    OURS,
    "airflow.providers.standard.operators.bash",
    "airflow.providers.http.operators.http",
    "airflow.providers.openai.operators.openai",
]

# Importing Airflow asks every provider already, so it is made to forget the two that are measured.
BEFORE_ASKING = """
import airflow
from importlib.metadata import distribution
for name in [name for name in sys.modules if name.startswith("airflow_gpt_image")]:
    del sys.modules[name]
del sys.modules["airflow.providers.standard.get_provider_info"]
"""

_TIMED = """
import json, sys, time
{before}
known = set(sys.modules)
start = time.perf_counter()
{statement}
seconds = time.perf_counter() - start
print(json.dumps([seconds, sorted(set(sys.modules) - known)]))
"""


def timed(statement: str, before: str) -> tuple[float, list[str]]:
    """Seconds a statement takes in a fresh process, and the modules it loaded."""
    script = _TIMED.format(before=before, statement=statement)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    seconds, modules = json.loads(done.stdout.splitlines()[-1])
    return seconds, modules


def installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def taking_turns(statements: dict[str, str], before: str) -> dict[str, tuple[float, int, float, float]]:
    """By name: the median in seconds, how many modules were loaded, the fastest and the slowest."""
    seconds: dict[str, list[float]] = {name: [] for name in statements}
    loaded: dict[str, int] = {}
    for name, statement in statements.items():  # once unmeasured: compiles to .pyc, warms the disk's cache
        loaded[name] = len(timed(statement, before)[1])
    for _ in range(ROUNDS):
        for name, statement in statements.items():
            seconds[name].append(timed(statement, before)[0])
    return {
        name: (statistics.median(values), loaded[name], min(values), max(values))
        for name, values in seconds.items()
    }


def table(figures: dict[str, tuple[float, int, float, float]], ours: str, missing: list[str]) -> None:
    reference = figures[ours][0]
    print("| imported | median | fastest – slowest | modules loaded | beside ours |")
    print("|---|--:|--:|--:|--:|")
    for name, (median, modules, fastest, slowest) in figures.items():
        beside = "1" if name == ours else f"{median / reference:.2g} ×"
        spread = f"{fastest * 1000:.1f} – {slowest * 1000:.1f} ms"
        print(f"| {name} | {median * 1000:.1f} ms | {spread} | {modules} | {beside} |")
    for name in missing:
        print(f"| {name} | not installed | | | |")


def main() -> None:
    for folder in find_spec("airflow_gpt_image").submodule_search_locations:
        compileall.compile_dir(folder, quiet=1)
    operators()
    print()
    metadata()


def operators() -> None:
    there = [module for module in OPERATORS if installed(module)]
    missing = [f"`{module}`" for module in OPERATORS if module not in there]
    statements = {f"`{module}`": f"import {module}" for module in there}
    print(f"### Importing an operator, after `{BEFORE}` (median of {ROUNDS} fresh processes)\n")
    with tempfile.TemporaryDirectory() as folder:
        # Found as the others are, on a path, and with nothing in it: what no module can be faster than.
        Path(folder, "this_module_is_empty.py").touch()
        statements["an empty module"] = "import this_module_is_empty"
        statements["ours, and the first operator made"] = MADE
        figures = taking_turns(statements, f"{BEFORE}\nsys.path.append({folder!r})")
    table(figures, f"`{OURS}`", missing)


def metadata() -> None:
    print("### Asking for a provider's metadata, as every component of Airflow does at its start\n")
    statements = {
        "this provider's": _asked("airflow-provider-gpt-image"),
        "the standard provider's": _asked("apache-airflow-providers-standard"),
    }
    table(taking_turns(statements, BEFORE_ASKING), "this provider's", [])
    modules = timed(statements["this provider's"], BEFORE_ASKING)[1]
    ours = [f"`{module}`" for module in modules if module.partition(".")[0] == "airflow_gpt_image"]
    print(f"\nOf this package that loads {', '.join(ours)}.")


def _asked(distribution: str) -> str:
    return (
        f"[entry] = distribution({distribution!r}).entry_points.select(group='apache_airflow_provider')\n"
        "entry.load()()"
    )
