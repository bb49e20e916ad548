"""Airflow 3.4, where ``GPT_IMAGE_AIRFLOW_34`` names the python of an environment that has it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from airflow_gpt_image.emulator.server import EmulatorServer
from stack.airflow import ScratchAirflow
from tests.e2e.conftest import EXAMPLES

PROJECT = Path(__file__).parents[2]

needs_airflow_3_4 = pytest.mark.skipif(
    "GPT_IMAGE_AIRFLOW_34" not in os.environ, reason="GPT_IMAGE_AIRFLOW_34 names no python"
)


@contextmanager
def airflow_3_4(emulator: EmulatorServer) -> Iterator[ScratchAirflow]:
    """An Airflow 3.4 with our examples, and our package as it is."""
    home = Path(tempfile.mkdtemp(prefix="gpt-image-review-"))
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*install, "--target", str(home / "provider"), str(PROJECT)], check=True)
    env = {
        "PYTHONPATH": str(home / "provider"),
        "AIRFLOW_CONN_GPT_IMAGE_DEFAULT": emulator.airflow_connection(),
        "AIRFLOW_VAR_GPT_IMAGE_DESTINATION": str(home / "images"),
        "AIRFLOW__GPT_IMAGE__GALLERY_ROOTS": str(home / "images"),
    }
    python = Path(os.environ["GPT_IMAGE_AIRFLOW_34"])
    try:
        with ScratchAirflow(home / "airflow", dags_folder=EXAMPLES, env=env, python=python) as airflow:
            yield airflow
    finally:
        shutil.rmtree(home, ignore_errors=True)
