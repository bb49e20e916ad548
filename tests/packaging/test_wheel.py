"""What users install: complete, without what is ours alone, and found by a real Airflow."""

from __future__ import annotations

import json
import posixpath
import re
import subprocess
import sys
import tarfile
import textwrap
import zipfile
from pathlib import Path

import pytest

import airflow_gpt_image
from airflow_gpt_image import __version__
from tests.snippets import links

MODULES = """
import importlib.metadata
files = importlib.metadata.files("airflow-provider-gpt-image")
modules = sorted(str(f.with_suffix("")).replace("/", ".") for f in files if f.suffix == ".py")
modules = [name.removesuffix(".__init__") for name in modules]
"""


@pytest.fixture(scope="module")
def names(built):
    with zipfile.ZipFile(built.wheel) as archive:
        return archive.namelist()


@pytest.fixture(scope="module")
def metadata(built, names):
    (name,) = [name for name in names if name.endswith(".dist-info/METADATA")]
    with zipfile.ZipFile(built.wheel) as archive:
        return archive.read(name).decode()


def test_the_wheel_is_the_package_and_nothing_else(names):
    assert {name.split("/")[0] for name in names} == {
        "airflow_gpt_image",
        f"airflow_provider_gpt_image-{__version__}.dist-info",
    }


def test_the_wheel_has_every_module_of_the_sources_and_its_types(names):
    sources = Path(airflow_gpt_image.__file__).parent
    wanted = {str(path.relative_to(sources.parent)) for path in sources.rglob("*.py")}
    assert wanted | {"airflow_gpt_image/py.typed"} <= set(names)


def test_the_wheel_has_the_pages_of_the_images_tab(names):
    sources = Path(airflow_gpt_image.__file__).parent
    files = (sources / "plugins" / "images" / "static").rglob("*.*")
    wanted = {str(path.relative_to(sources.parent)) for path in files}
    assert wanted <= set(names)
    assert {Path(name).name for name in wanted} >= {"page.html", "main.css", "main.js", "icon.svg"}


def test_the_wheel_has_no_tests_and_no_litter(names):
    assert [name for name in names if "test" in name.lower() and "pytest_plugin" not in name] == []
    assert [name for name in names if name.endswith((".pyc", ".db", ".cfg", ".log")) or "/." in name] == []


def test_the_wheel_says_its_version_license_and_what_it_needs(metadata, names):
    assert f"\nVersion: {__version__}\n" in metadata
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    assert "Requires-Dist: apache-airflow<4,>=3.3\n" in metadata
    assert "\nRequires-Python: >=3.11\n" in metadata
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_pillow_is_only_for_the_emulator(metadata):
    needed = [line for line in metadata.splitlines() if line.startswith("Requires-Dist: pillow")]

    assert needed
    assert all("extra ==" in line for line in needed)


def test_an_index_takes_the_metadata_and_renders_the_description(built):
    checked = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", built.wheel, built.sdist],
        capture_output=True,
        text=True,
        check=False,
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert checked.stdout.count("PASSED") == 2


def test_the_metadata_say_which_airflow_and_lead_nowhere_wrong(metadata):
    assert "\nClassifier: Framework :: Apache Airflow :: Provider\n" in metadata
    assert "\nClassifier: License" not in metadata  # the license's expression says it
    # Airflow's page of providers links to it, and without it to a page of Apache's that doesn't exist.
    assert re.findall(r"^Project-URL: (.*)$", metadata, re.MULTILINE) == [
        "Documentation, https://api.aivideoapi.ai"
    ]
    assert "\nHome-page:" not in metadata


def test_the_sdist_has_what_it_takes_to_build_test_and_try_it(built):
    with tarfile.open(built.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    assert {"pyproject.toml", "README.md", "LICENSE", "Makefile", "airflow_gpt_image/py.typed"} <= names
    assert any(name.startswith("tests/unit/") for name in names)
    assert any(name.startswith("dags_examples/") for name in names)
    assert {"docs/tutorial.md", "docs/design/README.md", "docs/images/log.png"} <= names
    assert not any("__pycache__" in name or name.startswith((".venv", ".git/")) for name in names)


def test_every_link_of_the_sdists_pages_leads_to_a_file_that_is_in_it(built):
    with tarfile.open(built.sdist) as archive:
        files = {member.name: member for member in archive if member.isfile()}
        pages = [name for name in files if name.endswith(".md")]
        dead = [
            (name, target)
            for name in pages
            for target in links(archive.extractfile(files[name]).read().decode())
            if (path := target.partition("#")[0])
            and not any(
                file == where or file.startswith(f"{where}/")
                for where in [posixpath.normpath(posixpath.join(posixpath.dirname(name), path))]
                for file in files
            )
        ]

    assert len(pages) > 10
    assert dead == []


def test_the_installed_package_is_the_wheels_and_not_the_sources(installed):
    where = installed.run("-c", "import airflow_gpt_image; print(airflow_gpt_image.__file__)").strip()

    assert where == str(installed.site_packages / "airflow_gpt_image" / "__init__.py")


def test_airflow_lists_the_provider_with_its_version(installed):
    listed = json.loads(installed.run("-m", "airflow", "providers", "list", "--output", "json"))

    # There once: a second one would be the sources, found beside the wheel.
    ours = [row for row in listed if row["package_name"] == "airflow-provider-gpt-image"]
    assert [row["version"] for row in ours] == [__version__]


def test_airflow_lists_the_connection_type_with_its_hook(installed):
    listed = json.loads(installed.run("-m", "airflow", "providers", "hooks", "--output", "json"))

    (ours,) = [row for row in listed if row["connection_type"] == "gpt_image"]
    assert ours["class"] == "airflow_gpt_image.hooks.gpt_image.GptImageHook"
    assert ours["package_name"] == "airflow-provider-gpt-image"


def test_the_emulator_explains_itself(installed):
    text = installed.run("-m", "airflow_gpt_image.emulator", "--help")

    assert "AIRFLOW_CONN_GPT_IMAGE_DEFAULT" in text
    assert "submit:503*2" in text


def test_importing_any_module_opens_no_connection_starts_no_process_and_writes_no_file(installed):
    # Airflow's own imports do all of that, so they come first; what is watched is what ours add.
    script = MODULES + textwrap.dedent("""
        import importlib, socket, sys
        import airflow.sdk, airflow.triggers.base, pydantic, httpx, pytest, starlette.applications, uvicorn
        import airflow.sdk.definitions.retry_policy
        import airflow.models.taskinstance, airflow.models.trigger, airflow.state  # the API server's
        import airflow.api_fastapi.app, airflow.api_fastapi.core_api.security

        asked = []
        forbidden = ("socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.mkdir", "os.remove",
                     "os.rename", "sqlite3.", "urllib.")

        def watch(event, arguments):
            writes = event == "open" and any(letter in str(arguments[1] or "") for letter in "wax+")
            if event.startswith(forbidden) or writes:
                asked.append((module, event))

        module = None
        sys.dont_write_bytecode = True
        sys.addaudithook(watch)
        for module in modules:
            importlib.import_module(module)
        module = "afterwards"
        socket.socket().close()
        print(len(modules), asked)
    """)

    count, _, asked = installed.run("-c", script).strip().splitlines()[-1].partition(" ")

    assert int(count) > 20
    assert asked == "[('afterwards', 'socket.__new__')]"


def test_importing_any_module_reads_no_setting(installed):
    # Read at import, a setting is that of the process that happened to import first.
    script = MODULES + textwrap.dedent("""
        import importlib, os
        import airflow.sdk, airflow.triggers.base, pydantic, httpx, pytest, starlette.applications, uvicorn
        import airflow.sdk.definitions.retry_policy
        import airflow.models.taskinstance, airflow.models.trigger, airflow.state  # the API server's
        import airflow.api_fastapi.app, airflow.api_fastapi.core_api.security

        asked = []

        class Watched(type(os.environ)):
            def __getitem__(self, name):
                if name.startswith(("AIRFLOW_CONN", "AIRFLOW_VAR", "AIRFLOW__GPT_IMAGE")):
                    asked.append((module, name))
                return super().__getitem__(name)

        os.environ.__class__ = Watched
        module = None
        for module in modules:
            importlib.import_module(module)
        module = "afterwards"
        os.environ.get("AIRFLOW_CONN_TO_SHOW_THAT_IT_IS_SEEN")
        print(asked)
    """)

    asked = installed.run("-c", script).strip().splitlines()[-1]

    assert asked == "[('afterwards', 'AIRFLOW_CONN_TO_SHOW_THAT_IT_IS_SEEN')]"
