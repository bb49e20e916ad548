"""The environments of ``make compat``: what they are made of, and on which interpreters."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.compat.environments import find_python, floors, floors_that_are_not_tried

THIS = "python{}.{}".format(*sys.version_info)


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """A PATH and a pyenv of our own, both empty."""
    path, pyenv = tmp_path / "path", tmp_path / "pyenv" / "versions"
    path.mkdir()
    pyenv.mkdir(parents=True)
    monkeypatch.setenv("PATH", str(path))
    monkeypatch.setenv("PYENV_ROOT", str(pyenv.parent))
    return path, pyenv


def link(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).symlink_to(sys.executable)
    return folder / name


def test_the_row_lowest_has_the_lowest_versions_that_are_allowed():
    assert {"httpx", "pydantic"} <= floors().keys()
    assert floors_that_are_not_tried() == []


def test_an_interpreter_on_the_path_is_found(folders):
    path, _ = folders
    python = link(path, THIS)

    assert find_python(THIS) == python


def test_a_program_that_fails_is_no_interpreter(folders):
    path, _ = folders
    shim = path / "python3.12"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)

    assert find_python("python3.12") is None


def test_an_interpreter_of_another_version_is_none(folders):
    path, _ = folders
    link(path, "python3.99")

    assert find_python("python3.99") is None


def test_behind_a_shim_that_fails_pyenvs_own_version_is_found(folders):
    path, pyenv = folders
    shim = path / THIS
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    version = THIS.removeprefix("python")
    python = link(pyenv / f"{version}.7" / "bin", THIS)

    assert find_python(THIS) == python
