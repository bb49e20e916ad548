"""What Airflow discovers: valid by its own schema, true to the code, and cheap to ask for."""

from __future__ import annotations

import importlib
import json
import pkgutil
import subprocess
import sys
import textwrap
from dataclasses import fields
from importlib import resources
from importlib.metadata import entry_points

import jsonschema
import pytest
from airflow.providers_manager import ProvidersManager
from airflow.sdk import task
from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime

import airflow_gpt_image
from airflow_gpt_image import __version__
from airflow_gpt_image.api.settings import DEFAULT_BASE_URL, ClientSettings
from airflow_gpt_image.decorators.gpt_image import gpt_image_batch_task, gpt_image_task
from airflow_gpt_image.errors import InvalidSettingsError
from airflow_gpt_image.hooks.gpt_image import GptImageHook
from airflow_gpt_image.provider_info import get_provider_info

PACKAGE = "airflow-provider-gpt-image"
LISTED = ["hooks", "operators", "triggers", "sensors"]


@pytest.fixture(scope="module")
def info():
    return get_provider_info()


@pytest.fixture(scope="module")
def form(info):
    (connection_type,) = info["connection-types"]
    return connection_type


@pytest.fixture(scope="module")
def conn_fields(form):
    return form["conn-fields"]


@pytest.fixture(scope="module")
def defaults():
    return {field.name: field.default for field in fields(ClientSettings)}


def modules_in(info, kind):
    return [module for row in info.get(kind, []) for module in row["python-modules"]]


def test_it_is_valid_by_airflows_own_schema(info):
    schema = json.loads(resources.files("airflow").joinpath("provider_info.schema.json").read_text())

    jsonschema.validate(info, schema)


def test_it_is_plain_data(info):
    assert json.loads(json.dumps(info)) == info


def test_it_is_found_by_its_entry_point():
    (found,) = [
        entry for entry in entry_points(group="apache_airflow_provider") if entry.dist.name == PACKAGE
    ]

    assert found.load() is get_provider_info


def test_airflow_lists_the_provider_with_its_version():
    provider = ProvidersManager().providers[PACKAGE]

    assert provider.version == __version__
    assert provider.data["package-name"] == PACKAGE


def test_airflow_lists_the_hook_by_its_connection_type():
    hook = ProvidersManagerTaskRuntime().hooks["gpt_image"]

    assert hook.hook_class_name == "airflow_gpt_image.hooks.gpt_image.GptImageHook"
    assert hook.hook_name == GptImageHook.hook_name
    assert hook.connection_id_attribute_name == GptImageHook.conn_name_attr
    assert hook.package_name == PACKAGE
    assert hook.connection_testable


def test_the_hook_and_the_form_agree_on_names(form):
    assert form["connection-type"] == GptImageHook.conn_type
    assert form["hook-name"] == GptImageHook.hook_name
    assert form["hook-class-name"] == f"{GptImageHook.__module__}.{GptImageHook.__name__}"
    assert form["ui-field-behaviour"]["placeholders"]["host"] == DEFAULT_BASE_URL


def test_the_form_has_the_fields_the_hook_reads_and_no_other(conn_fields, monkeypatch):
    # The hook itself says which it knows, when it refuses one.
    monkeypatch.setenv(
        "AIRFLOW_CONN_GPT_IMAGE_DEFAULT",
        json.dumps({"conn_type": "gpt_image", "password": "sk-0123456789", "extra": {"unknown": 1}}),
    )
    with pytest.raises(InvalidSettingsError) as refused:
        GptImageHook().settings()

    known = str(refused.value).partition("Known are ")[2].partition(".\n")[0].replace("\n", " ").split(", ")
    assert sorted(conn_fields) == sorted(known)


def test_every_setting_but_the_key_and_the_address_is_in_the_form(conn_fields, defaults):
    assert set(conn_fields) - {"ca_bundle"} == set(defaults) - {"api_key", "base_url", "origin"}


def test_the_form_shows_the_port_without_which_its_test_is_refused_by_airflow(form):
    assert form["ui-field-behaviour"]["hidden-fields"] == ["login", "schema"]


def test_the_defaults_shown_are_those_that_hold(conn_fields, defaults):
    shown = {
        name: field["schema"]["default"]
        for name, field in conn_fields.items()
        if "default" in field["schema"]
    }

    assert shown == {name: defaults[name] for name in shown}
    assert set(shown) == {"connect_timeout", "read_timeout", "verify", "max_image_bytes", "allow_http"}


@pytest.mark.parametrize("name", ["connect_timeout", "read_timeout", "max_image_bytes", "rate_limit"])
def test_the_largest_and_smallest_the_form_allows_is_what_the_settings_allow(conn_fields, name):
    schema = conn_fields[name]["schema"]
    least = schema.get("minimum", schema.get("exclusiveMinimum", 0) + 0.001)
    most = schema.get("maximum")

    ClientSettings(api_key="sk-0123456789", **{name: least})
    if most is not None:
        ClientSettings(api_key="sk-0123456789", **{name: most})
        with pytest.raises(InvalidSettingsError):
            ClientSettings(api_key="sk-0123456789", **{name: most + 1})
    with pytest.raises(InvalidSettingsError):
        ClientSettings(api_key="sk-0123456789", **{name: 0})


def test_what_may_hold_a_password_is_typed_unseen(conn_fields):
    assert conn_fields["proxy"]["schema"]["format"] == "password"


def test_every_field_may_be_left_empty_and_is_described(conn_fields):
    for field in conn_fields.values():
        assert "null" in field["schema"]["type"]
        assert field["label"]
        assert field["description"].endswith(".")


def test_a_form_that_is_saved_untouched_is_a_connection_with_the_defaults(conn_fields, monkeypatch):
    extra = {name: field["schema"].get("default") for name, field in conn_fields.items()}
    given = {"conn_type": "gpt_image", "password": "sk-0123456789", "host": "", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_GPT_IMAGE_DEFAULT", json.dumps(given))

    settings = GptImageHook().settings()

    assert settings == ClientSettings(api_key="sk-0123456789")


@pytest.mark.parametrize("kind", LISTED)
def test_every_listed_module_can_be_imported(info, kind):
    for module in modules_in(info, kind):
        assert importlib.import_module(module).__name__ == module


@pytest.mark.parametrize("kind", LISTED)
def test_every_module_for_authors_is_listed(info, kind):
    # Docs, the registry and `airflow providers` know of nothing else; a room's own tools are its own affair.
    tools = {
        f"airflow_gpt_image.operators.{name}"
        for name in ("batch_arguments", "data_sets", "ending", "image_arguments", "masking", "rows")
    }
    tools.add("airflow_gpt_image.triggers.tally")
    room = f"{airflow_gpt_image.__path__[0]}/{kind}"
    names = {f"airflow_gpt_image.{kind}.{module.name}" for module in pkgutil.iter_modules([room])}

    assert sorted(modules_in(info, kind)) == sorted(names - tools)


@pytest.mark.parametrize("function", [gpt_image_task, gpt_image_batch_task])
def test_airflow_finds_a_decorator_by_its_name(info, function):
    name = function.__name__.removesuffix("_task")

    assert {"name": name, "class-name": f"{function.__module__}.{function.__name__}"} in info[
        "task-decorators"
    ]
    assert ProvidersManagerTaskRuntime().taskflow_decorators[name] is getattr(task, name) is function


def test_every_listed_integration_is_declared(info):
    declared = {row["integration-name"] for row in info["integrations"]}

    used = {row["integration-name"] for kind in LISTED for row in info.get(kind, [])}
    assert used == declared


def test_asking_for_it_loads_nothing_else():
    # Every component of Airflow does it at its start.
    script = """
        import sys
        from airflow_gpt_image.provider_info import get_provider_info
        get_provider_info()
        heavy = ("airflow", "httpx", "pydantic", "imagesize", "starlette", "uvicorn", "PIL")
        print(sorted(
            name for name in sys.modules
            if name.split(".")[0] in heavy or name.startswith("airflow_gpt_image")
        ))
    """

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert done.stdout.strip() == "['airflow_gpt_image', 'airflow_gpt_image.provider_info']"
