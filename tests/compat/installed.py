"""
Run by the interpreter of a row: what is installed there works without a stack.

Imports every module of the wheel, with warnings of our own as errors, and asks Airflow what it knows of us.
Prints one line of JSON.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import platform
import sys
import warnings

# What these say about themselves is not about us.
from airflow.providers_manager import ProvidersManager
from airflow.sdk import task

NAME = "airflow-provider-gpt-image"


def modules() -> list[str]:
    files = importlib.metadata.files(NAME) or []
    names = [".".join(file.with_suffix("").parts) for file in files if file.suffix == ".py"]
    return sorted(name.removesuffix(".__init__") for name in names)


def main() -> None:
    warnings.filterwarnings("error", module=r"airflow_gpt_image(\.|$)")
    for name in modules():
        importlib.import_module(name)
    where = sys.modules["airflow_gpt_image"].__file__ or ""
    hook = ProvidersManager().hooks["gpt_image"]
    report = {
        "modules": len(modules()),
        "installed": where.startswith(sys.prefix),
        "hook": hook.hook_class_name if hook else None,
        "decorators": [name for name in ("gpt_image", "gpt_image_batch") if callable(getattr(task, name))],
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in ("apache-airflow", "httpx", "pydantic")},
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
