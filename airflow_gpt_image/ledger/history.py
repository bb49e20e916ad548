"""Who pays, and what became of the task instance before, as Airflow's context tells it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_gpt_image.ledger.payer import Payer


@dataclass(frozen=True)
class History:
    """
    What Airflow tells of a task instance's past.

    :param first_run: that it certainly never ran before.
    :param cleared: that it was cleared, as far as can be told: a doubt reads as a retry.
    :param maybe_cleared: that it was, or that a clear can't be excluded, so that an absent record may be a
        deleted one: something in the run was cleared, and the DAG's ``retries`` were changed.
    :param mapped: that it is one of several, and its index a position.
    :param own_folder: that the folder of its records depends on its map index.
    :param shares_folder: that all map indexes have one folder.
    :param resumed: that this try was deferred, so there was a record when it went to wait.
    """

    first_run: bool
    cleared: bool
    maybe_cleared: bool = False
    mapped: bool = False
    own_folder: bool = False
    shares_folder: bool = False
    resumed: bool = False


def payer_of(
    context: Mapping[str, Any],
    *,
    retries: int | None,
    own_folder: bool = False,
    shares_folder: bool = False,
    resumed: bool = False,
) -> tuple[Payer, History]:
    """
    Return the attempt that a context belongs to, and its task instance's past.

    A clear sets ``max_tries`` to the last try's number plus the task's ``retries``, so it is never lowered
    and raised by every clear; a retry and a reschedule leave it. Numbers of tries are never reset (seen on
    3.3 and 3.4).

    :param context: Airflow's.
    :param retries: the task's.
    :param own_folder: that the destination's template has the map index in it.
    :param shares_folder: that all map indexes have one destination.
    :param resumed: that this try goes on after a deferral.
    """
    ti = context["ti"]
    attempt = _number(ti, "try_number", 1)
    clear_epoch = _number(ti, "max_tries", 0)
    map_index = _number(ti, "map_index", -1)
    loop = context.get("loop")
    payer = Payer(
        dag_id=ti.dag_id,
        run_id=ti.run_id,
        task_id=ti.task_id,
        map_index=map_index,
        loop_index=None if loop is None else int(loop.index),
        clear_epoch=max(0, clear_epoch),
        attempt=max(0, attempt),
        run_clears=max(0, _number(context.get("dag_run"), "clear_number", 0)),
        ti_id=str(getattr(ti, "id", "")),
    )
    first_run = attempt <= 1 and not context.get("task_reschedule_count")
    cleared = not first_run and clear_epoch > (retries or 0)
    mapped = map_index >= 0
    maybe = not first_run and payer.run_clears > 0 and clear_epoch != (retries or 0)
    return payer, History(
        first_run,
        cleared,
        maybe_cleared=cleared or maybe,
        mapped=mapped,
        own_folder=own_folder,
        shares_folder=shares_folder,
        resumed=resumed,
    )


def _number(owner: object, name: str, default: int) -> int:
    value = getattr(owner, name, None)
    return value if isinstance(value, int) else default
