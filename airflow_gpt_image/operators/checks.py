"""Check an operator's arguments while a DAG is parsed; messages give the value, the rule, the remedy."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_gpt_image.airflow_internals import SetDuringExecution, partial_arguments
from airflow_gpt_image.api.text import quote
from airflow_gpt_image.errors import InvalidRequestError
from airflow_gpt_image.storage.references import EXAMPLE, References, check_roots, object_addresses

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from airflow.sdk import BaseOperator

T = TypeVar("T", bound="DataclassInstance")


def refused(name: str, value: object, rule: str) -> InvalidRequestError:
    """Return the error about an argument."""
    return InvalidRequestError(f"{name}={quote(value)} {rule}.")


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


def require_seconds(operator: object, *names: str) -> None:
    """Refuse arguments that are no number of seconds above 0."""
    for name in names:
        value = getattr(operator, name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
            raise refused(name, value, "must be a number of seconds above 0")


def require_choice(operator: object, name: str, *known: str) -> None:
    """Refuse an argument that is none of these words."""
    if getattr(operator, name) not in known:
        raise refused(name, getattr(operator, name), f"must be one of {', '.join(map(repr, known))}")


def require_int(operator: object, name: str, least: int, most: int) -> None:
    """Refuse an argument that is no whole number in a range."""
    value = getattr(operator, name)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise refused(name, value, f"must be a whole number from {least:,} to {most:,}")


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
        raise refused("max_credits", value, "must be an amount of credits, 0 or more")
    return amount


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
        raise refused(name, value, "must be a whole number of rows, 1 or more")
    return int(text)


def references(operator: BaseOperator, roots: object, name: str, given: object) -> References:
    """
    Return which objects a task may have signed: those under its roots, and those that stand in the DAG file.

    Asked by the operator's constructor, which has its arguments as they were written and not as they are
    rendered. But where ``expand()`` calls it, it has other tasks' results: then only what ``partial()`` and
    the ``default_args`` were given stands in the DAG file.

    :param roots: the argument ``reference_roots``.
    :param name: the argument that may hold addresses, or a mapping whose ``image_urls`` may.
    :raises InvalidRequestError: when the roots aren't valid, or come from ``expand()``; or when there are
        none, and an address is a template of an object's.
    """
    partial = partial_arguments(operator)
    if partial is not None:
        partial = {**_default_arguments(operator), **partial}
        if roots != partial.get("reference_roots"):
            raise InvalidRequestError(
                f"reference_roots={quote(roots)} comes from expand().\n"
                "Which objects may be signed is the author's to say, and not another task's.\n"
                "Give reference_roots to partial()."
            )
        given = partial.get(name)
    written = given.get("image_urls") if isinstance(given, Mapping) else given
    addresses = frozenset(object_addresses(written))
    for address in addresses if not roots else ():
        if templated(address):
            raise InvalidRequestError(
                f"image_urls: {quote(address)} is known only when it is rendered.\n"
                "Such an object is signed for the API only under a prefix that the task's author lists.\n"
                f"Give reference_roots, such as [{EXAMPLE!r}]."
            )
    return References(check_roots(roots), addresses)


def _default_arguments(operator: BaseOperator) -> Mapping[str, Any]:
    """Return the ``default_args`` of an operator's DAG, and of the task group that it is in."""
    dag = operator.dag.default_args if operator.has_dag() else {}  # type: ignore[no-untyped-call]
    group = operator.task_group.default_args if operator.task_group is not None else {}
    return {**(dag or {}), **(group or {})}
