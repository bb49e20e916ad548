"""A logger that keeps what it was told, for code that takes one."""

from __future__ import annotations


class Lines:
    """A logger that keeps what it was told."""

    def __init__(self) -> None:
        self.infos: list[str] = []
        self.warnings: list[str] = []

    def __str__(self) -> str:
        return "\n".join(self.infos + self.warnings)

    def info(self, event: str, *args: object) -> None:
        self.infos.append(event % args)

    def warning(self, event: str, *args: object) -> None:
        self.warnings.append(event % args)
