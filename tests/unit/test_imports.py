"""A DAG file is parsed over and over, by processes that never run a task: importing must cost nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest


def loaded_by(statements, after="from airflow.sdk import DAG, BaseOperator"):
    """The modules a fresh interpreter has more after some statements, beyond those after others."""
    script = f"""
        import json, sys
        {after}
        before = set(sys.modules)
        {statements}
        print(json.dumps(sorted(set(sys.modules) - before)))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("operator", ["gpt_image", "batch"])
def test_importing_an_operator_loads_the_operator_and_nothing_it_needs_later(operator):
    modules = loaded_by(f"import airflow_gpt_image.operators.{operator}")

    # Airflow itself may have asked for the provider's metadata before, which loads the package's top.
    ours = {name for name in modules if name.startswith("airflow_gpt_image")} - {"airflow_gpt_image"}
    assert ours == {"airflow_gpt_image.operators", f"airflow_gpt_image.operators.{operator}"}
    assert not {"httpx", "imagesize", "airflow.triggers.base", "uvicorn", "PIL"} & set(modules)


def test_importing_the_decorator_loads_the_operator_beside_it_and_nothing_it_needs_later():
    modules = loaded_by(
        "import airflow_gpt_image.decorators.gpt_image", after="from airflow.sdk import DAG, task"
    )

    ours = {name for name in modules if name.startswith("airflow_gpt_image")} - {"airflow_gpt_image"}
    assert {name.split(".")[1] for name in ours} == {"decorators", "operators", "errors"}
    assert not {"httpx", "imagesize", "airflow.triggers.base", "uvicorn", "PIL"} & set(modules)


@pytest.mark.parametrize(
    "module",
    [
        "airflow_gpt_image",
        "airflow_gpt_image.api",
        "airflow_gpt_image.errors",
        "airflow_gpt_image.provider_info",
    ],
)
def test_importing_a_room_at_the_top_loads_only_itself(module):
    modules = loaded_by(f"import {module}", after="")

    assert [name for name in modules if name.startswith("airflow")] == sorted({"airflow_gpt_image", module})


def test_the_api_is_usable_without_airflow():
    modules = loaded_by("import airflow_gpt_image.api.client, airflow_gpt_image.api.models", after="")

    assert [name for name in modules if name == "airflow" or name.startswith("airflow.")] == []


def test_importing_pytests_plugin_starts_no_server():
    modules = loaded_by("import airflow_gpt_image.emulator.pytest_plugin", after="import pytest")

    assert not {"uvicorn", "starlette", "PIL", "airflow"} & set(modules)
