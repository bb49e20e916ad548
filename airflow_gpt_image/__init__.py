"""Images from the gpt-image-2 API as first-class Airflow work. Importing this does nothing.

What DAG files need can be imported from here, and is loaded when it is asked for.
"""

from __future__ import annotations

from typing import Any, Final

__version__ = "0.1.0"

# Where they stand; `__init__.pyi` tells type checkers the same.
_MODULES: Final = {
    "GptImageBatchOperator": "operators.batch",
    "GptImageGenerateOperator": "operators.gpt_image",
    "GptImageHook": "hooks.gpt_image",
    "GptImageRetryPolicy": "retry_policy",
    "GptImageSensor": "sensors.gpt_image",
    "review_body": "review",
}

__all__ = [
    "GptImageBatchOperator",
    "GptImageGenerateOperator",
    "GptImageHook",
    "GptImageRetryPolicy",
    "GptImageSensor",
    "__version__",
    "review_body",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
