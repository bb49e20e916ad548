"""The tests of this folder that read Airflow's database hold on PostgreSQL, too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stack.postgres import ScratchPostgres, available

FOLDER = Path(__file__).parent
FILES = ("test_many.py", "test_odd_tasks.py", "test_loops.py", "test_single.py", "test_results.py")


@pytest.mark.timeout(600)
@pytest.mark.skipif(not available(), reason="no PostgreSQL server on this machine")
def test_what_is_read_of_airflows_database_is_the_same_on_postgresql():
    with ScratchPostgres() as server:
        env = {**os.environ, "GPT_IMAGE_TESTS_DATABASE": server.url}
        files = [str(FOLDER / name) for name in FILES]
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "--show-capture=no"]
        # PostgreSQL stores no half of a surrogate pair.
        command += ["-k", "not surrogate", *files]
        done = subprocess.run(command, cwd=FOLDER.parents[3], env=env, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout[-10_000:]
