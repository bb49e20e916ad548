"""Name a map index for Airflow's UI: by the first words of the prompt, unless the author says how."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_gpt_image.api.models import ImageRequest

_LONGEST: Final = 40


def name_map_index(context: Context, request: ImageRequest) -> None:
    """Name a mapped task's index by what it makes, where the author gave no ``map_index_template``."""
    index = context["ti"].map_index
    if context.get("map_index_template") is None and index is not None and index >= 0:
        fix_label(context, _words(request))


def fix_label(context: Context, label: Any) -> None:
    """Let a text be the map index's name, whatever it holds: Airflow renders a template at the task's end."""
    given = {"map_index_template": "{{ map_index_label }}", "map_index_label": label}
    # A type checker knows it as a fixed set of names; Airflow hands it on with whatever is in it.
    cast("dict[str, Any]", context).update(given)


def _words(request: ImageRequest) -> str:
    """Return the first words of the prompt; without one, the first reference image's name."""
    text = request.prompt or request.image_urls[0].partition("?")[0].rstrip("/").rpartition("/")[2]
    line = "".join(letter if letter.isprintable() else "�" for letter in " ".join(text.split()))
    if len(line) <= _LONGEST:
        return line
    words = line[:_LONGEST].rpartition(" ")[0]
    return f"{words or line[:_LONGEST]}…"
