"""Find a picture by its place in a task's result: for texts that are written before there is a picture."""

from __future__ import annotations

from typing import Final

from airflow.utils.session import create_session

from airflow_gpt_image.plugins.images.documents import airflow_rows
from airflow_gpt_image.plugins.images.documents.places import Place
from airflow_gpt_image.plugins.images.refusals import NO_RESULT, RefusedError

# Far above any number of images; longer ones are no numbers of ours.
_LONGEST: Final = 6


def image_path(dag_id: str, run_id: str, task_id: str, map_index: str, number: str) -> str:
    """
    Return where the image of a task's result is stored.

    :param map_index: -1: the task isn't mapped.
    :param number: of the image, from 0.
    :raises RefusedError: when the task has returned no such image, or it isn't stored.
    """
    asked = "/".join(["task", dag_id, run_id, task_id, map_index])
    # PostgreSQL refuses to be asked for a text with a NUL.
    place = None if "\0" in asked else Place.parse(asked)
    if place is None or not (number.isascii() and number.isdigit() and len(number) <= _LONGEST):
        raise RefusedError(NO_RESULT)
    images = _images(place)
    image = images[int(number)] if int(number) < len(images) else None
    path = image.get("path") if isinstance(image, dict) else None
    if not isinstance(path, str):
        raise RefusedError(NO_RESULT)
    return path


def _images(place: Place) -> list[object]:
    """Return the images of a task instance's result; of iterations with one address, the latest one's."""
    with create_session() as session:
        found = airflow_rows.find(
            session, place.dag_id, [place.run_id], task_id=place.task_id, any_operator=True
        )
        rows = [
            row
            for row in found
            if row.map_index == place.map_index and place.loop_index in (None, row.loop_index)
        ][-1:]
        airflow_rows.load(session, rows, records=False, rendered=False)
    result = rows[0].result if rows else None
    images = result.get("images") if isinstance(result, dict) else None
    return images if isinstance(images, list) else []
