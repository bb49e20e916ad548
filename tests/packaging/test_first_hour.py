"""The first hour: README and tutorial word by word, in a copy of the project, in an empty environment.

``make first-hour`` runs it. It installs Airflow, so it needs a package index. In ``make test`` the same
snippets run in the environment that is there: ``tests/integration/test_snippets.py``.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.processes import free_port
from tests.snippets import PROJECT, README, snippets

pytestmark = pytest.mark.soak

TUTORIAL = PROJECT / "docs" / "tutorial.md"
EMULATOR = "python -m airflow_gpt_image.emulator"
STEP = "-- done: "
THE_END = "that-was-all"


def lines_of(page: Path, until: str | None = None) -> Iterator[str]:
    """The shell lines that do what a page says: files are saved, commands are typed."""
    for snippet in snippets(page):
        if until and until in snippet.text:
            return
        if snippet.file:
            folder = shlex.quote(str(Path(snippet.file).parent))
            yield f"mkdir -p {folder} && cat > {shlex.quote(snippet.file)} <<'END OF FILE'"
            yield snippet.text + "END OF FILE"
        elif snippet.kind == "console":
            for command in snippet.commands:
                yield command
                yield f"echo {shlex.quote(STEP + command)}"


def with_a_key() -> tuple[list[str], list[str]]:
    """What the README types once there is a key: with connections, and to leave the emulator.

    In this order, so that the emulator answers: its connection, in the environment, goes before the one that
    is added.
    """
    [snippet] = [snippet for snippet in snippets(README) if "kill %1" in snippet.text]
    asks = [command for command in snippet.commands if "airflow connections" in command]
    return asks, [command for command in snippet.commands if command not in asks]


@pytest.fixture
def clone(tmp_path):
    """A copy of what is, or is about to be, in the repository; in a checkout without git, of all."""
    clone = tmp_path / "clone"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT,
        capture_output=True,
        check=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (PROJECT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, clone / name)
    return clone


@pytest.mark.timeout(900)
def test_who_does_what_readme_and_tutorial_say_has_a_picture_and_a_catalogue(clone, tmp_path):
    pictures = tmp_path / "pictures"
    asks, leaves = with_a_key()
    assert (len(asks), len(leaves)) == (2, 2)
    first, then = lines_of(README, until="kill %1"), lines_of(TUTORIAL)
    # Wherever a command fails, the script ends, and says which lines it has done.
    script = "\n".join(["set -eu", *first, *asks, *then, *leaves, f"echo {THE_END}"])
    assert script.count("dag.test()") == 2
    assert script.count(f"\n{EMULATOR} &\n") == 1
    # A folder and a port of this test's own.
    port = str(free_port())
    script = script.replace("/tmp/gpt-image", str(pictures)).replace("8787", port)
    script = script.replace(EMULATOR, f"{EMULATOR} --port {port}")
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "VIRTUAL"))
    }
    interpreters = tmp_path / "bin"
    interpreters.mkdir()
    (interpreters / "python3").symlink_to(Path(sys._base_executable))
    shell = subprocess.Popen(
        ["bash", "-c", script],
        cwd=clone,
        env={**inherited, "PATH": f"{interpreters}{os.pathsep}{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        said = ""
        for line in shell.stdout:  # not to its end: the emulator keeps it open
            said += line
            if line.startswith(THE_END):
                break
    finally:
        os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()
        shell.stdout.close()

    assert THE_END in said, said[-4000:]
    assert "Connection success!" in said
    (poster,) = (path for path in pictures.glob("*/*.png") if path.parent.name != "catalogue")
    assert poster.stat().st_size > 0
    assert sorted(path.name for path in (pictures / "catalogue" / "items").glob("*.png")) == [
        "C-4.png",
        "L-3.png",
        "T-1.png",
        "V-2.png",
    ]
    # When the books are read: the poster and three of the catalogue, which is run twice.
    assert '"submits":4' in said.replace('": ', '":')
