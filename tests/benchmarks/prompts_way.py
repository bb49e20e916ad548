"""Count what a prompt passes from ``execute`` to the stored file: functions, and the files they are in."""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import airflow_gpt_image
from airflow_gpt_image.emulator import EmulatorServer
from airflow_gpt_image.operators.batch import GptImageBatchOperator
from airflow_gpt_image.operators.gpt_image import GptImageGenerateOperator
from tests.task_instance import TaskInstance

_PACKAGE = str(Path(airflow_gpt_image.__file__).parent)


def _passed(function: Callable[[], Any]) -> tuple[int, int]:
    """Call a function; how many of our functions and files it passes, in whatever thread."""
    seen: set[tuple[str, str, int]] = set()

    def note(frame: FrameType, event: str, arg: Any) -> None:
        code = frame.f_code
        name = code.co_filename
        ours = name.startswith(_PACKAGE) and "/emulator/" not in name
        if (
            event == "call"
            and ours
            and code.co_name not in ("<module>", "<lambda>", "<genexpr>", "<listcomp>")
        ):
            seen.add((name, code.co_name, code.co_firstlineno))

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
    return len(seen), len({name for name, _, _ in seen})


def main() -> None:
    """Print the counts for one image, and for a batch of one."""
    logging.disable(logging.CRITICAL)
    with EmulatorServer(duration=0.1) as server, tempfile.TemporaryDirectory() as folder:
        extra = {"verify": False}
        fields = {"conn_type": "gpt_image", "host": server.url, "password": server.key, "extra": extra}
        os.environ["AIRFLOW_CONN_GPT_IMAGE_DEFAULT"] = json.dumps(fields)
        common: dict[str, Any] = {"deferrable": False, "poll_interval": 0.1, "retries": 3}

        def single(**_: Any) -> GptImageGenerateOperator:
            return GptImageGenerateOperator(
                task_id="image", prompt="a teapot", destination=f"{folder}/single", **common
            )

        def batch(**_: Any) -> GptImageBatchOperator:
            operator = GptImageBatchOperator(
                task_id="images", requests=["a teapot"], destination=f"{folder}/batch", **common
            )
            operator.requests = ["a teapot"]  # as Airflow renders it
            return operator

        for name, make in {"single": single, "batch": batch}.items():
            functions, files = _passed(TaskInstance(make, task_id=name).run)
            print(f"{name:<8}{functions:>5} functions in {files} files")
