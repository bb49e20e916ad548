"""What the arguments of the operator for one image mean: checked while parsing, rendered on the worker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from airflow_gpt_image.api import rules
from airflow_gpt_image.tasks import checks

if TYPE_CHECKING:
    from airflow_gpt_image.ledger.payer import Payer
    from airflow_gpt_image.storage.names import Names

CHECKED: Final = (
    *rules.FIELDS,
    "destination",
    "filename",
    "reuse",
    "poll_interval",
    "timeout",
    "max_credits",
    "on_clear",
    "on_unknown_submit",
)
"""Arguments that :func:`check` looks at."""


def check(given: Mapping[str, Any]) -> None:
    """
    Refuse arguments that are wrong whatever the templates render to; those that aren't given are others' say.

    :raises InvalidRequestError: with the value, the rule and the remedy.
    """
    checks.require_seconds(given, "poll_interval", "timeout")
    checks.require_choice(given, "reuse", "run", "destination")
    checks.require_choice(given, "on_clear", "reuse", "regenerate")
    checks.require_choice(given, "on_unknown_submit", "fail", "resubmit")
    checks.credits(given.get("max_credits"))
    fields = {name: given[name] for name in rules.FIELDS if name in given}
    rules.check_fields(
        rendered({name: value for name, value in fields.items() if not checks.templated(value)})
    )
    destination, filename = given.get("destination"), given.get("filename")
    if destination is not None:
        checks.require_destination(destination)
    across_runs = given.get("reuse") == "destination"
    if across_runs and "destination" in given and destination is None:
        raise checks.refused(
            "reuse",
            "destination",
            "needs a destination to look at",
            "It takes images that any run stored there.",
            "Give a destination, or leave reuse out.",
        )
    if filename and not checks.templated(filename):
        from airflow_gpt_image.storage.names import check_filename

        check_filename(filename, across_runs=across_runs)


def rendered(fields: dict[str, Any]) -> dict[str, Any]:
    """
    Return the fields as a request takes them: Jinja renders to text, also where a boolean or nothing is
    meant.

    So a prompt that renders to ``None``, as of a task that returned nothing, is none, and isn't drawn and
    paid for.
    """
    words = {"True": True, "False": False, "true": True, "false": False}
    if isinstance(fields.get("nsfw_checker"), str):
        fields["nsfw_checker"] = words.get(fields["nsfw_checker"].strip(), fields["nsfw_checker"])
    if isinstance(fields.get("image_urls"), (list, tuple)):
        fields["image_urls"] = [str(url) if hasattr(url, "protocol") else url for url in fields["image_urls"]]
    for name in ("prompt", "resolution", "callback_url"):
        if fields.get(name) == "None" or (name != "prompt" and fields.get(name) == ""):
            fields[name] = None
    return fields


def names_of(payer: Payer, filename: str | None, *, across_runs: bool) -> Names:
    """
    Return what a task's images are called, as far as it is known before there is a generation.

    :param filename: a template; None: the usual one.
    :param across_runs: whether other runs look for the image, too.
    """
    from airflow_gpt_image.storage.names import OF_GENERATION, OF_REQUEST, Names, check_filename

    usual = OF_REQUEST if across_runs else OF_GENERATION
    template = check_filename(filename or usual, across_runs=across_runs)
    # An unmapped task has -1, and no other instance beside it. In a loop each iteration has the same index.
    index = str(max(payer.map_index, 0))
    loop = "" if payer.loop_index is None else f".{payer.loop_index}"
    parts = {"dag_id": payer.dag_id, "run_id": payer.run_id, "task_id": payer.task_id}
    return Names(template, {**parts, "map_index": f"{index}{loop}"})
