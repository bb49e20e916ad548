"""A DAG file is parsed over and over, by processes that never run a task: importing must cost nothing."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import airflow_gpt_image

PACKAGE = Path(airflow_gpt_image.__file__).parent
# They change without notice. What is meant for providers is found elsewhere.
PRIVATE_TREES = ("airflow.sdk.api", "airflow.sdk.definitions", "airflow.sdk.execution_time")


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
    ours -= {"airflow_gpt_image.airflow_internals", "airflow_gpt_image.operators.rows"}
    # What the classes themselves are made with.
    ours -= {f"airflow_gpt_image.tasks{name}" for name in ("", ".frames", ".links", ".telling_lineage")}
    ours -= {"airflow_gpt_image.operators.masking"}
    assert ours == {"airflow_gpt_image.operators", f"airflow_gpt_image.operators.{operator}"}
    assert not {"httpx", "imagesize", "airflow.triggers.base", "uvicorn", "PIL"} & set(modules)


ONE = (
    "from airflow_gpt_image.operators.gpt_image import GptImageGenerateOperator as make; "
    "make(task_id='a', prompt='x', aspect_ratio='16:9', resolution='2k', destination='/data/{{ ds }}')"
)
MANY = (
    "from airflow_gpt_image.operators.batch import GptImageBatchOperator as make; "
    "make(task_id='a', requests=['x'], defaults={'aspect_ratio': '1:1'}, destination='/data/{{ ds }}')"
)


@pytest.mark.parametrize("statement", [ONE, MANY], ids=["one", "many"])
def test_making_an_operator_loads_what_checks_its_arguments_and_no_more(statement):
    # Models, clients and stores take three times as long to load as all of this together.
    modules = loaded_by(statement)

    heavy = {"httpx", "pyarrow", "fsspec", "airflow.triggers.base"}
    heavy |= {
        f"airflow_gpt_image.{name}" for name in ("api.models", "api.client", "ledger", "storage.folders")
    }
    assert heavy & set(modules) == set()


def test_importing_the_decorator_loads_the_operator_beside_it_and_nothing_it_needs_later():
    modules = loaded_by(
        "import airflow_gpt_image.decorators.gpt_image", after="from airflow.sdk import DAG, task"
    )

    ours = {name for name in modules if name.startswith("airflow_gpt_image")} - {"airflow_gpt_image"}
    rooms = {"airflow_internals", "decorators", "errors", "operators", "tasks"}
    assert {name.split(".")[1] for name in ours} == rooms
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


def imported_by(source):
    """The modules that a source file names in its imports, wherever in it they stand."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def private_parts_of_airflow(source):
    """What a source file imports from Airflow, and what Airflow doesn't offer."""
    for name in imported_by(source):
        private = any(part.startswith("_") for part in name.split(".")) or name.startswith(PRIVATE_TREES)
        if name.startswith("airflow.") and private:
            yield name


@pytest.mark.parametrize(
    "statement",
    [
        "from airflow.sdk.definitions._internal.types import SET_DURING_EXECUTION",
        "import airflow.sdk.execution_time.context",
        "def later():\n    from airflow.sdk.definitions.context import context_merge",
        "from airflow import _shared",
    ],
)
def test_a_private_module_of_airflow_is_recognised(statement):
    assert len(list(private_parts_of_airflow(statement))) == 1


def test_one_module_alone_imports_private_parts_of_airflow():
    found = {
        str(path.relative_to(PACKAGE)): names
        for path in PACKAGE.rglob("*.py")
        if (names := sorted(private_parts_of_airflow(path.read_text())))
    }

    assert found == {
        "airflow_internals.py": [
            "airflow.sdk.definitions._internal.mixins.ResolveMixin",
            "airflow.sdk.definitions._internal.types.SET_DURING_EXECUTION",
            "airflow.sdk.definitions._internal.types.SetDuringExecution",
        ]
    }


@pytest.mark.parametrize("name", airflow_gpt_image.__all__)
def test_what_dag_files_need_can_be_imported_from_the_package_itself(name):
    assert getattr(airflow_gpt_image, name) is not None


def test_a_name_that_the_package_does_not_have_is_an_import_error():
    with pytest.raises(ImportError, match="GptImageOperator"):
        from airflow_gpt_image import GptImageOperator  # noqa: F401


def test_type_checkers_know_the_same_names():
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text())

    names = [alias.name for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert sorted([*names, "__version__"]) == sorted(airflow_gpt_image.__all__)
