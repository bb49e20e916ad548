"""The first hour: README and tutorial word by word, in a copy of the project, in an empty environment.

It installs Airflow, so it needs a package index, as ``make test`` does.
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

from tests.snippets import PROJECT, README, snippets

TUTORIAL = PROJECT / "docs" / "tutorial.md"
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
    script = "\n".join(
        # Wherever a command fails, the script ends, and says which lines it has done.
        ["set -eu", *lines_of(README, until="kill %1"), *lines_of(TUTORIAL), f"echo {THE_END}"]
    ).replace("/tmp/gpt-image", str(pictures))
    assert script.count("dag.test()") == 2
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
