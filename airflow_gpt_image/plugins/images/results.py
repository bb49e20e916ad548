"""Find a picture by its place in a task's result: for texts that are written before there is a picture."""

from __future__ import annotations

from typing import Any, Final

from airflow.models.xcom import XComModel
from airflow.utils.session import create_session

from airflow_gpt_image.plugins.images.refusals import NO_RESULT, RefusedError

_RESULT: Final = "return_value"
# Far above any map index and any number of images; longer ones are no numbers of ours.
_LONGEST: Final = 9


def image_path(dag_id: str, run_id: str, task_id: str, map_index: str, number: str) -> str:
    """
    Return where the image of a task's result is stored.

    :param map_index: -1: the task isn't mapped.
    :param number: of the image, from 0.
    :raises RefusedError: when the task has returned no such image, or it isn't stored.
    """
    index, at = _whole_number(map_index), _whole_number(number)
    with create_session() as session:
        query = XComModel.get_many(
            key=_RESULT, dag_ids=dag_id, run_id=run_id, task_ids=task_id, map_indexes=index, limit=1
        )
        row: Any = session.scalars(query).first()
        value = None if row is None else row.value
    images = value.get("images") if isinstance(value, dict) else None
    if not isinstance(images, list) or not 0 <= at < len(images) or not isinstance(images[at], dict):
        raise RefusedError(NO_RESULT)
    path = images[at].get("path")
    if not isinstance(path, str):
        raise RefusedError(NO_RESULT)
    return path


def _whole_number(text: str) -> int:
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= _LONGEST):
        raise RefusedError(NO_RESULT)
    return int(text)
