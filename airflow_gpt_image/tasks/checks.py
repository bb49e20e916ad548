"""
Check an operator's arguments while a DAG is parsed.

A message has the value, the rule and the remedy on lines of their own, and names the task and the author's
line. What is checked is a mapping of arguments: of an operator all, of ``partial()`` those that are given. A
DAG file is parsed over and over, so what only a message needs is imported with it.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import fields
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from pathlib import PurePath
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from airflow_gpt_image.airflow_internals import SetDuringExecution, partial_arguments

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from airflow.sdk import BaseOperator

    from airflow_gpt_image.errors import InvalidRequestError
    from airflow_gpt_image.storage.references import References

T = TypeVar("T", bound="DataclassInstance")

_log = logging.getLogger(__name__)

# Frames that are nobody's DAG file: what makes an operator from the author's line on.
_MACHINERY: Final = frozenset({"airflow", "airflow_gpt_image", "contextlib", "functools"})

# What an f-string makes of "{{ ds }}": Jinja takes single braces for text.
_SINGLE_BRACES: Final = re.compile(r"(?<!\{)\{(?: *[a-z_][a-z0-9_.]* *| [^{}]+ )\}(?!\})")


class NamesTask:
    """
    Put the task and the author's line before every refusal within ``with``, and leave our own frames out.

    :param task_id: None: not known yet.
    :param written: whether the arguments stand in the DAG file at this moment; not when a worker makes the
        operator of a mapped task.
    """

    def __init__(self, task_id: object, *, written: bool = True) -> None:
        self._task_id = task_id
        self._written = written

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            return
        from airflow_gpt_image.errors import InvalidRequestError

        if not isinstance(error, InvalidRequestError):
            return
        place = _authors_line() if self._written else ""
        task = f"Task {self._task_id!r}" if self._task_id is not None else "A task"
        raise InvalidRequestError(
            f"{task}{place}: {error.message}", code=error.code, problems=error.problems
        ) from None


def _authors_line() -> str:
    """Return the file and the line that the operator is made in; nothing when that can't be told."""
    frame = sys._getframe(1)
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if module.partition(".")[0] not in _MACHINERY:
            return f" ({PurePath(frame.f_code.co_filename).name}, line {frame.f_lineno})"
        frame = frame.f_back  # type: ignore[assignment]
    return ""


def naming(operator: BaseOperator) -> NamesTask:
    """Return the context in which an operator's constructor checks its arguments."""
    return NamesTask(operator.task_id, written=partial_arguments(operator) is None)


def refused(name: str, value: object, rule: str, why: str, remedy: str) -> InvalidRequestError:
    """
    Return the error about an argument.

    :param rule: goes on after the value.
    :param why: a sentence, as the remedy.
    """
    from airflow_gpt_image.api.text import quote
    from airflow_gpt_image.errors import InvalidRequestError

    return InvalidRequestError(f"{name}={quote(value)} {rule}.\n{why}\n{remedy}")


def templated(value: object) -> bool:
    """Return whether only the running task knows a value: from a template, a task, or a function."""
    if isinstance(value, SetDuringExecution):
        return True
    if isinstance(value, str):
        return any(mark in value for mark in ("{{", "{%", "{#"))
    if isinstance(value, (list, tuple)):
        return any(templated(item) for item in value)
    if hasattr(value, "protocol"):  # an ObjectStoragePath, of which Airflow renders the text
        return templated(str(value))
    # As Airflow's templater tells them apart: a path has a resolve() too, but another one.
    return hasattr(value, "resolve") and not isinstance(value, os.PathLike)


def seconds(given: Any) -> Any:
    """Return a number of seconds for a ``timedelta``; anything else as it is, to be checked."""
    return given.total_seconds() if isinstance(given, timedelta) else given


def require_seconds(given: Mapping[str, Any], *names: str) -> None:
    """Refuse arguments that are no number of seconds above 0, nor such a ``timedelta``."""
    for name in names:
        value = seconds(given.get(name, 1))
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
            raise refused(
                name,
                value,
                "must be a number of seconds above 0",
                "It bounds how long, or how often, something is waited for.",
                "Give one such as 30, or a timedelta such as timedelta(seconds=30).",
            )


def require_choice(given: Mapping[str, Any], name: str, *known: str) -> None:
    """Refuse an argument that is none of these words."""
    value = given.get(name, known[0])
    if value not in known:
        from difflib import get_close_matches

        near = get_close_matches(str(value).lower(), known, 1)
        raise refused(
            name,
            value,
            f"must be one of {', '.join(map(repr, known))}",
            "The operator's docstring says what each of them does.",
            f"Did you mean {near[0]!r}?" if near else f"Leave it out for the default, {known[0]!r}.",
        )


def require_int(given: Mapping[str, Any], name: str, least: int, most: int) -> None:
    """Refuse an argument that is no whole number in a range."""
    value = given.get(name, least)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise refused(
            name,
            value,
            f"must be a whole number from {least:,} to {most:,}",
            "What is beyond that range is more than the task can do.",
            f"Give an int such as {min(most, max(least, 2)):,}.",
        )


def credits(value: float | str | Decimal | None) -> Decimal | None:  # noqa: A001
    """
    Return ``max_credits`` as a Decimal: 4.7 means 4.7, not the binary fraction next to it. None: no bound.

    :raises InvalidRequestError: when it is no amount.
    """
    if value is None:
        return None
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        amount = Decimal("NaN")
    if isinstance(value, bool) or not amount.is_finite() or amount < 0:
        raise refused(
            "max_credits",
            value,
            "must be an amount of credits, 0 or more",
            "It bounds what the task may spend since its last clear; it isn't templated.",
            "Give one such as 4.7 (an image of the tier 1k), or leave it out for no bound.",
        )
    return amount


def require_destination(given: object, *, rendered: bool = False) -> None:
    """
    Refuse what can't be a destination.

    :param rendered: whether templates are rendered; else what is one passes.
    """
    if not rendered and templated(given):
        return
    from airflow_gpt_image.errors import InvalidRequestError
    from airflow_gpt_image.storage.destinations import check_destination

    try:
        check_destination(given)
    except InvalidRequestError:
        found = _SINGLE_BRACES.search(str(given))
        if found is None:
            raise
        raise InvalidRequestError(f"destination={_told_of_braces(given, found[0])}") from None


def _told_of_braces(given: object, found: str) -> str:
    from airflow_gpt_image.api.text import quote_path

    word = found.strip("{} ")
    return (
        f"{quote_path(given)} holds {found!r}, which Jinja takes for text.\n"
        "An f-string makes single braces of double ones, so every run has the same place.\n"
        f"In an f-string write {{{{{{{{ {word} }}}}}}}}; else {{{{ {word} }}}}."
    )


def warn_of_braces(task_id: object, given: Mapping[str, Any], *names: str) -> None:
    """Log a warning about an argument in which an f-string has made text of a template."""
    for name in names:
        value = given.get(name)
        found = _SINGLE_BRACES.search(value) if isinstance(value, str) else None
        if found is not None:
            _log.warning("Task %r: %s=%s", task_id, name, _told_of_braces(value, found[0]))


def check_not_nested(operator: BaseOperator, context: Any) -> None:
    """
    Refuse an operator that is carried out within another task: that task would be the one that waits.

    :raises InvalidRequestError: before anything is paid for.
    """
    running = context.get("task")
    # Tests of operators give a task instance and no task.
    carried_out = context.get("ti") is not None if running is None else running.task_id == operator.task_id
    if carried_out:
        return
    from airflow_gpt_image.errors import InvalidRequestError

    called = f"inside the task {running.task_id!r}" if running is not None else "by hand"
    raise InvalidRequestError(
        f"{type(operator).__name__}.execute() was called {called}; nothing was submitted.\n"
        "Only Airflow can carry out an operator, which waits without a worker, in its own task.\n"
        "Use @task.gpt_image or @task.gpt_image_batch; or GptImageHook().get_conn().generate(…)."
    )


def options_of(operator: object, options: type[T], **others: object) -> T:
    """
    Return what the author decided: the operator's attributes of the same names as the options' fields.

    :param options: the dataclass that it is for.
    :param others: fields that the operator has under another name, or in another form.
    """
    names = [field.name for field in fields(options) if field.name not in others]
    return options(**{name: getattr(operator, name) for name in names}, **others)


def rows(name: str, value: object) -> int | None:
    """
    Return a number of rows; None, also as rendered text: all of them.

    :raises InvalidRequestError: when it is no whole number from 1 on.
    """
    text = "" if value is None else str(value).strip()
    if text in ("", "None"):
        return None
    if isinstance(value, (bool, float)) or not (text.isdecimal() and text.isascii()) or int(text) < 1:
        raise refused(
            name,
            value,
            "must be a whole number of rows, 1 or more",
            "It makes a preview of so many rows of the data set.",
            "Give one such as 10, or leave it out for all rows.",
        )
    return int(text)


def references(operator: BaseOperator, roots: object, name: str, given: object) -> References | None:
    """
    Return which objects a task may have signed: those under its roots, and those that stand in the DAG file.

    Asked by the operator's constructor, which has its arguments as they were written and not as they are
    rendered. But where ``expand()`` calls it, it has other tasks' results: then only what ``partial()`` and
    the ``default_args`` were given stands in the DAG file.

    :param roots: the argument ``reference_roots``.
    :param name: the argument that may hold addresses, or a mapping whose ``image_urls`` may.
    :return: None: there are none.
    :raises InvalidRequestError: when the roots aren't valid, or come from ``expand()``; or when there are
        none, and an address is a template of an object's.
    """
    partial = partial_arguments(operator)
    if partial is not None:
        partial = {**_default_arguments(operator), **partial}
        if roots != partial.get("reference_roots"):
            raise refused(
                "reference_roots",
                roots,
                "comes from expand()",
                "Which objects may be signed is the author's to say, and not another task's.",
                "Give reference_roots to partial().",
            )
        given = partial.get(name)
    written = given.get("image_urls") if isinstance(given, Mapping) else given
    if roots is None and not isinstance(written, (list, tuple)):
        return None
    return written_references(roots, written)


def _default_arguments(operator: BaseOperator) -> Mapping[str, Any]:
    """Return the ``default_args`` of an operator's DAG, and of the task group that it is in."""
    dag = operator.dag.default_args if operator.has_dag() else {}  # type: ignore[no-untyped-call]
    group = operator.task_group.default_args if operator.task_group is not None else {}
    return {**(dag or {}), **(group or {})}


def written_references(roots: object, written: object) -> References:
    """
    Return which objects may be signed, by what stands in the DAG file.

    :raises InvalidRequestError: as :func:`references`.
    """
    from airflow_gpt_image.api.text import quote
    from airflow_gpt_image.errors import InvalidRequestError
    from airflow_gpt_image.storage.references import EXAMPLE, References, check_roots, object_addresses

    addresses = frozenset(object_addresses(written))
    for address in addresses if not roots else ():
        if templated(address):
            raise InvalidRequestError(
                f"image_urls: {quote(address)} is known only when it is rendered.\n"
                "Such an object is signed for the API only under a prefix that the task's author lists.\n"
                f"Give reference_roots, such as [{EXAMPLE!r}]."
            )
    return References(check_roots(roots), addresses)
