"""Who pays, and for which of several equal requests."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from airflow_gpt_image.api.text import quote

# Anybody may have written a record. Sums over numbers without end take time without end.
Count = Annotated[int, Field(ge=0, le=1_000_000)]
AirflowId = Annotated[str, Field(max_length=1_000)]


class TaskInstance(BaseModel):
    """
    A task instance, whatever its try.

    :param loop_index: the iteration of a Task Loop (Airflow 3.4), from 0; None outside of one.
    """

    model_config = ConfigDict(frozen=True)

    dag_id: AirflowId
    run_id: AirflowId
    task_id: AirflowId
    map_index: int = -1
    loop_index: int | None = None

    @property
    def task_digest(self) -> str:
        """Tell the task in its run (and loop iteration) from every other one, in 12 hex digits."""
        return _digest(self.dag_id, self.run_id, self.task_id, self.loop_index)[:12]

    @property
    def instance_digest(self) -> str:
        """Tell the task instance, map index included, from every other one, in 32 hex digits."""
        return _digest(self.dag_id, self.run_id, self.task_id, self.loop_index, self.map_index)[:32]

    def __str__(self) -> str:
        mapped = f"[{self.map_index}]" if self.map_index >= 0 else ""
        looped = f", iteration {self.loop_index}" if self.loop_index is not None else ""
        return f"{quote(self.dag_id)}, run {quote(self.run_id)}, task {quote(self.task_id)}{mapped}{looped}"


class Payer(TaskInstance):
    """
    Who pays: one attempt of a task instance.

    :param clear_epoch: the task instance's ``max_tries``: every clear raises it, a retry does not.
    :param attempt: the try's number, which counts on over clears.
    :param run_clears: how often anything in the run had been cleared (``dag_run.clear_number``).
    :param ti_id: Airflow's id of this try of the task instance.
    """

    clear_epoch: Count
    attempt: Count
    run_clears: Count = 0
    ti_id: AirflowId = ""

    @property
    def instance(self) -> TaskInstance:
        """Return the task instance that it is an attempt of."""
        return TaskInstance(**self.model_dump(include=set(TaskInstance.model_fields)))

    def same_task(self, other: Payer) -> bool:
        """Return whether both are the same task of the same run and iteration, at whatever map index."""
        return self.task_digest == other.task_digest

    def same_instance(self, other: Payer) -> bool:
        """Return whether both are attempts of the same task instance."""
        return self.instance_digest == other.instance_digest

    def same_epoch(self, other: Payer) -> bool:
        """Return whether both are attempts of the same task instance with no clear in between."""
        return self.same_instance(other) and self.clear_epoch == other.clear_epoch

    def same_attempt(self, other: Payer) -> bool:
        """Return whether both are the same try; what else is cleared in the run meanwhile changes nothing."""
        return self.same_epoch(other) and self.attempt == other.attempt


class Slot(NamedTuple):
    """
    Which of the images that one task makes of equal requests.

    :param variant: which of a row's images it is, from 1.
    :param copy: the how many-th row with the same request it comes from, from 1.
    :param map_index: of the task instance that paid for it; -1 when the task isn't mapped.
    """

    variant: int = 1
    copy: int = 1
    map_index: int = -1


@lru_cache(maxsize=1_000)  # it is asked for with every record
def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode("utf-8", "surrogatepass")).hexdigest()
