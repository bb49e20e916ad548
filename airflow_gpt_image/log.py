"""What is needed of a logger: Airflow's is none of the standard library's."""

from __future__ import annotations

from typing import Protocol


class Log(Protocol):
    """Takes a text with its values apart, as both kinds of logger do."""

    def info(self, event: str, /, *args: object) -> object: ...

    def warning(self, event: str, /, *args: object) -> object: ...
