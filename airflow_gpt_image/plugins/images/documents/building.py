"""
Make the documents that the Images tab's pages show: plain JSON, bounded, of what Airflow's database, records
and manifests tell.

All of it blocks, so it is called in a thread. What is read was written by Dag authors and is checked; only
files under the roots are opened or given an address.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from airflow_gpt_image.plugins.images.documents import assets, dags, mapped, overview, runs, tasks
from airflow_gpt_image.plugins.images.documents.context import Context
from airflow_gpt_image.plugins.images.documents.places import Kind, Place, Query

__all__ = ["Context", "Place", "Query", "build", "place_in_region"]

place_in_region = tasks.place_in_region

_BUILDERS: Final[dict[Kind, Callable[[Place, Query, Context], dict[str, Any] | None]]] = {
    "task": tasks.build,
    "mapped": mapped.build,
    "task-runs": dags.build,
    "run": runs.build,
    "dag": dags.build,
    "asset": assets.build,
    "all": overview.build,
}


def build(place: Place, query: Query, context: Context) -> dict[str, Any] | None:
    """
    Return the document of a place, or of one tile in it.

    Whoever asks has to be allowed to read the place's Dag; which of other Dags may be shown is asked here.

    :return: None when there is no such tile.
    """
    return _BUILDERS[place.kind](place, query, context)
