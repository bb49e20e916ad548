"""Find a picture by its place in a task's result: for texts that are written before there is a picture."""

from __future__ import annotations

from typing import Final

from airflow.utils.session import create_session

from airflow_gpt_image.plugins.images.documents import airflow_rows
from airflow_gpt_image.plugins.images.documents.places import Place
from airflow_gpt_image.plugins.images.refusals import NO_RESULT, RefusedError
from airflow_gpt_image.plugins.images.tasks import chosen

# Far above any number of images; a longer one is no number of ours.
_LONGEST: Final = 9


def image_path(dag_id: str, run_id: str, task_id: str, index: str, number: str) -> str:
    """
    Return where the image of a task's result is stored.

    :param index: of the task instance, as addresses have it: ``-1`` (it isn't mapped), ``3``, ``loop-2-3``.
    :param number: of the image, from 0.
    :raises RefusedError: when the task has returned no such image, or it isn't stored.
    """
    place = Place.parse("/".join(("task", dag_id, run_id, task_id, index)))
    if place is None or not (number.isascii() and number.isdigit() and len(number) <= _LONGEST):
        raise RefusedError(NO_RESULT)
    with create_session() as session:
        siblings = airflow_rows.find(session, dag_id, [run_id], task_id=task_id, any_operator=True)
        row = chosen(siblings, place)
        if row is not None:
            airflow_rows.load(session, [row], records=False, rendered=False)
    result = None if row is None else row.result
    images = result.get("images") if isinstance(result, dict) else None
    if not isinstance(images, list) or int(number) >= len(images):
        raise RefusedError(NO_RESULT)
    image = images[int(number)]
    path = image.get("path") if isinstance(image, dict) else None
    if not isinstance(path, str):
        raise RefusedError(NO_RESULT)
    return path
