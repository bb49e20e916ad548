"""The fixtures for users' own tests."""

from __future__ import annotations

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


def test_the_plugin_loads_nothing_that_takes_time():
    program = (
        "import sys, airflow_gpt_image.emulator.pytest_plugin as plugin; "
        "print({'uvicorn', 'starlette', 'pydantic', 'PIL', 'httpx', 'airflow'} & set(sys.modules))"
    )

    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert loaded.stdout.strip() == "set()"
