"""The fixtures for users' own tests."""

from __future__ import annotations

import os
import subprocess
import sys

import httpx
import pytest

from airflow_gpt_image.emulator.pytest_plugin import gpt_image_emulator, gpt_image_emulator_server

__all__ = ["gpt_image_emulator", "gpt_image_emulator_server"]


@pytest.mark.parametrize("round", [1, 2])
def test_every_test_has_fresh_books(gpt_image_emulator, round):
    before = gpt_image_emulator.books()

    httpx.post(
        f"{gpt_image_emulator.url}/v1/images/generations",
        json={"model": "gpt-image-2", "input": {"prompt": "x"}},
        headers={"authorization": f"Bearer {gpt_image_emulator.key}"},
        trust_env=False,
    ).raise_for_status()

    assert before["submits"] == 0
    assert gpt_image_emulator.books()["submits"] == 1


def test_waits_of_dag_test_are_short_while_a_test_uses_the_emulator(gpt_image_emulator):
    from airflow_gpt_image.triggers.gpt_image import defer_grace_seconds

    assert os.environ["AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL"] == "0"
    assert defer_grace_seconds() == 5.0


@pytest.fixture
def own_heartbeat(monkeypatch):
    monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", "3")


def test_a_heartbeat_that_the_users_environment_sets_stays(own_heartbeat, gpt_image_emulator):
    assert os.environ["AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL"] == "3"


PLUGIN = "airflow_gpt_image.emulator.pytest_plugin"
HEAVY = ("uvicorn", "starlette", "pydantic", "PIL", "httpx", "h11", "airflow")

# Written by a user whose tests have nothing to do with images.
THEIR_TEST = f"""
import sys

def loaded():
    ours = {{name for name in sys.modules if name.split(".")[0] == "airflow_gpt_image"}}
    return ours, set({HEAVY}) & set(sys.modules)

def test_something(request):
    ours, heavy = loaded()
    assert {PLUGIN!r} in ours
    assert ours <= {{{PLUGIN!r}, "airflow_gpt_image.emulator", "airflow_gpt_image"}}
    assert not heavy
    request.getfixturevalue("gpt_image_emulator")
    ours, heavy = loaded()
    assert "airflow_gpt_image.emulator.server" in ours
    assert "uvicorn" in heavy
"""


def test_until_a_test_asks_for_the_emulator_the_plugin_loads_nothing_but_itself(tmp_path):
    (tmp_path / "test_theirs.py").write_text(THEIR_TEST)
    command = [sys.executable, "-m", "pytest", "-q", "-p", PLUGIN, "-p", "no:cacheprovider", "test_theirs.py"]

    ended = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 0, ended.stdout


def test_the_packages_that_the_plugin_is_in_hold_no_code_that_runs_at_import():
    # They are imported with it, whatever it does itself: so a user's coverage doesn't begin too late.
    program = f"import sys; before = set(sys.modules); import {PLUGIN}; print(*(set(sys.modules) - before))"

    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    ours = {name for name in loaded.stdout.split() if name.startswith("airflow_gpt_image")}
    assert ours == {"airflow_gpt_image", "airflow_gpt_image.emulator", PLUGIN}
