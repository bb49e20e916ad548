"""``python -m tests.benchmarks [NAME …]``: run all benchmarks, or those named, and print Markdown."""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import platform
import shutil
import sys
import tempfile

from tests import benchmarks


def main() -> int:
    known = [module.name for module in pkgutil.iter_modules(benchmarks.__path__) if module.name != "__main__"]
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(known)} (default: all)")
    names = parser.parse_args().names or known
    if unknown := set(names) - set(known):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; one of {', '.join(known)}")

    machine = f"{os.cpu_count()} CPUs, {platform.system()} {platform.machine()}"
    print(f"Python {platform.python_version()}, {machine}.")
    home = tempfile.mkdtemp(prefix="gpt-image-bench-")
    os.environ["AIRFLOW_HOME"] = home
    try:
        for name in names:
            print()
            importlib.import_module(f"{benchmarks.__name__}.{name}").main()
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
