"""Airflow 3.4, where ``GPT_IMAGE_AIRFLOW_34`` names the python of an environment that has it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
NAME = "GPT_IMAGE_AIRFLOW_34"

WHY_NOT = f"{NAME} names no python"
needs_airflow_3_4 = pytest.mark.skipif(NAME not in os.environ, reason=WHY_NOT)


def python() -> Path:
    """Return the interpreter of the environment that has it."""
    return Path(os.environ[NAME])


def with_our_package(folder: Path) -> dict[str, str]:
    """Install our package as it is into a folder; the variables with which Airflow finds it there."""
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*install, "--target", str(folder), str(PROJECT)], check=True)
    return {"PYTHONPATH": str(folder)}
