"""The distribution, built once, and installed into a fresh environment with this one's dependencies."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

PROJECT = Path(__file__).parents[2]


def run(*command, cwd, **environment):
    """Run to the end; what it said is in the error when it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """The wheel and the sdist, both made from the project as it is."""
    folder = tmp_path_factory.mktemp("dist")
    isolation = ["--no-isolation"] if find_spec("hatchling") else []
    run(sys.executable, "-m", "build", *isolation, "--wheel", "--sdist", "--outdir", folder, cwd=PROJECT)
    (wheel,) = folder.glob("*.whl")
    (sdist,) = folder.glob("*.tar.gz")
    return SimpleNamespace(wheel=wheel, sdist=sdist)


@pytest.fixture(scope="session")
def installed(built, tmp_path_factory):
    """An environment with the wheel in it; its Python, and a folder to run in that holds no sources."""
    home = tmp_path_factory.mktemp("installed")
    venv.create(home / "venv", with_pip=False)
    python = home / "venv" / "bin" / "python"
    own = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=home).strip())
    # One line of a .pth: the dependencies become importable, while the .pth files among them, the project's
    # editable install included, are not obeyed.
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]
    run(*pip, "--no-deps", "--no-index", "--ignore-installed", built.wheel, cwd=home)
    (home / "airflow").mkdir()

    def within(*arguments, **environment):
        return run(python, *arguments, cwd=home, AIRFLOW_HOME=str(home / "airflow"), **environment)

    return SimpleNamespace(run=within, site_packages=own, home=home)
