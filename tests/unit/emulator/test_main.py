"""The command line."""

from __future__ import annotations

import signal
import subprocess
import sys

import httpx
import pytest

from airflow_gpt_image.emulator.__main__ import main


@pytest.fixture
def start():
    """Start the emulator as a process; its address and the process."""
    running = []

    def start(*arguments):
        command = [sys.executable, "-m", "airflow_gpt_image.emulator", "--port", "0", *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        running.append(process)
        line = process.stdout.readline()
        assert line.startswith("Listening on http://127.0.0.1:")
        return line.removeprefix("Listening on ").strip(), process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def test_it_listens_when_it_says_so_and_does_as_it_was_told(start):
    url, process = start(
        "--key",
        "sk-one",
        "--key",
        "sk-two",
        "--credits",
        "9.4",
        "--price",
        "1k=4.65",
        "--fault",
        "submit:503*1",
    )
    body = {"model": "gpt-image-2", "input": {"prompt": "a red bicycle"}}

    statuses = [
        httpx.post(
            f"{url}/v1/images/generations",
            json=body,
            headers={"authorization": f"Bearer {key}"},
            trust_env=False,
        ).status_code
        for key in ("sk-one", "sk-one", "sk-two", "sk-two", "sk-emulator")
    ]
    process.send_signal(signal.SIGINT)
    _, log = process.communicate(timeout=5)

    assert statuses == [503, 200, 200, 402, 401]
    assert process.returncode == 0
    assert "submit meets the fault submit:503*1" in log
    assert "for 4.65 credits: 'a red bicycle'" in log
    assert "Traceback" not in log


def test_the_help_explains_itself(capsys):
    with pytest.raises(SystemExit) as leaving:
        main(["--help"])

    text = capsys.readouterr().out
    assert leaving.value.code == 0
    assert "examples:" in text
    assert "late_accept=…" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "'0.0.0.0' is not this machine"),
        (["--fault", "submit:nonsense"], "'nonsense' is not a fault of submit"),
        (["--duration", "soon"], "duration='soon' is not valid; seconds"),
        (["--key", "secret"], "each starting with 'sk-'"),
        (["--fail-rate", "2"], "a share from 0 to 1"),
        (["--price", "1k"], "credits, 0 or more, for each of 1k, 2k, 4k"),
        (["--prot", "1"], "unrecognized arguments"),
    ],
)
def test_a_wrong_argument_is_refused_with_the_rule(capsys, arguments, message):
    with pytest.raises(SystemExit) as leaving:
        main(arguments)

    assert leaving.value.code == 2
    assert message in capsys.readouterr().err
