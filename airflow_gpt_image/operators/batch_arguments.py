"""What the arguments of the operator for a data set may be: checked while a DAG is parsed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from airflow_gpt_image.batch import MOST_IN_FLIGHT, MOST_VARIANTS
from airflow_gpt_image.tasks import checks

CHECKED: Final = (
    "requests",
    "destination",
    "variants",
    "defaults",
    "columns",
    "prompt_template",
    "filename",
    "limit",
    "sample",
    "max_in_flight",
    "reuse",
    "on_invalid",
    "on_empty",
    "on_item_failure",
    "max_failures",
    "item_retries",
    "on_unknown_submit",
    "max_credits",
    "poll_interval",
    "timeout",
)
"""Arguments that :func:`check` looks at."""


def check(given: Mapping[str, Any]) -> None:
    """
    Refuse arguments that are wrong whatever the templates render to; those that aren't given are others' say.

    :raises InvalidRequestError: with the value, the rule and the remedy.
    """
    checks.require_seconds(given, "poll_interval", "timeout")
    checks.require_int(given, "variants", 1, MOST_VARIANTS)
    checks.require_int(given, "max_in_flight", 1, MOST_IN_FLIGHT)
    checks.require_int(given, "item_retries", 0, 10)
    checks.require_choice(given, "reuse", "run", "destination", "never")
    checks.require_choice(given, "on_invalid", "fail", "skip")
    checks.require_choice(given, "on_item_failure", "continue", "fail")
    checks.require_choice(given, "on_unknown_submit", "fail", "resubmit")
    checks.require_choice(given, "on_empty", "fail", "skip")
    checks.credits(given.get("max_credits"))
    _check_most_failures(given.get("max_failures"))
    if "destination" in given:
        checks.require_destination(given["destination"])
    _check_data_set(given)


def _check_most_failures(most: object) -> None:
    count = isinstance(most, int) and not isinstance(most, bool) and most >= 0
    share = isinstance(most, float) and 0 <= most < 1
    if most is not None and not (count or share):
        raise checks.refused(
            "max_failures",
            most,
            "must be a count (10), or a share below 1 (0.05)",
            "When more images fail, the batch submits nothing more, and fails.",
            "Give an int or a float, or leave it out for any number.",
        )


def _check_data_set(given: Mapping[str, Any]) -> None:
    """Refuse arguments about the data set; what that needs is imported where there is something to check."""
    limits = {name: given[name] for name in ("limit", "sample") if given.get(name) is not None}
    if len(limits) > 1:
        raise checks.refused(
            "sample",
            limits["sample"],
            "can't be given beside limit",
            "Each makes a preview of its own: the first rows, or rows from everywhere.",
            "Choose one of them.",
        )
    for name, value in limits.items():
        if not checks.templated(value):
            checks.rows(name, value)
    if given.get("columns") is not None:
        from airflow_gpt_image.datasets.names import check_columns

        check_columns(given["columns"])
    if given.get("prompt_template") is not None:
        from airflow_gpt_image.datasets.templates import PromptTemplate

        PromptTemplate(given["prompt_template"])
    if given.get("filename") is not None and not checks.templated(given["filename"]):
        from airflow_gpt_image.batch.filenames import FileNames

        FileNames(given["filename"]).check_variants(given.get("variants", 1))
    _check_defaults(given.get("defaults"))
    requests = given.get("requests")
    if isinstance(requests, str) or hasattr(requests, "protocol") or hasattr(requests, "__fspath__"):
        from airflow_gpt_image.datasets.paths import check_path

        if not checks.templated(requests):
            check_path(requests)


def _check_defaults(defaults: object) -> None:
    if not isinstance(defaults, Mapping):
        if defaults is None or checks.templated(defaults):
            return
        raise checks.refused(
            "defaults",
            defaults,
            "is no mapping of fields to values",
            "It gives the rows what they don't give themselves.",
            "Give one such as {'aspect_ratio': '16:9'}.",
        )
    from airflow_gpt_image.api import rules
    from airflow_gpt_image.errors import InvalidRequestError

    unknown = [name for name in defaults if name not in rules.FIELDS]
    if unknown:
        raise checks.refused(
            "defaults",
            unknown[0],
            "can't have a default",
            f"Only these can: {', '.join(rules.FIELDS)}.",
            "Leave it out, or name one of them.",
        )
    known = {name: value for name, value in defaults.items() if value is not None}
    try:
        rules.check_fields({name: value for name, value in known.items() if not checks.templated(value)})
    except InvalidRequestError as error:
        message = f"defaults: {error.message}"
        raise InvalidRequestError(message, code=error.code, problems=error.problems) from None
