"""Buttons on a task's page in Airflow's UI: its image, its folder, its manifest, its generation.

Airflow asks for them on the worker when the task ends, and keeps them in XCom. Its pages show those that a
browser opens (http and https); its REST API tells the others, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


class _Link(BaseOperatorLink):
    """A link that the operator knows by its name."""

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the address; nothing when the task came to none."""
        links: Mapping[str, str] = getattr(operator, "links", {})
        return links.get(self.name, "")


class ImageLink(_Link):
    """The first image: where the API put it, which a browser opens; else where it is stored."""

    name = "Image"


class FolderLink(_Link):
    """The folder that images are stored in."""

    name = "Folder"


class GenerationLink(_Link):
    """What the API says of the generation; it wants the key."""

    name = "Generation"


class ManifestLink(_Link):
    """What became of each image of a batch."""

    name = "Manifest"


def image_links(result: Mapping[str, Any], destination: object, base_url: str) -> dict[str, str]:
    """
    Return the links of a task that made one image, or waited for it.

    :param result: of the task.
    :param destination: its folder; None: there is none.
    :param base_url: of the API.
    """
    image = _web_address(result["url"]) or result["path"] or result["url"]
    links = {"Generation": f"{base_url}/v1/tasks/{result['generation_id']}"}
    if image:
        links["Image"] = _address(image)
    if destination is not None:
        links["Folder"] = _address(destination)
    return links


def batch_links(result: Mapping[str, Any], destination: object) -> dict[str, str]:
    """Return the links of a task for a data set."""
    return {"Manifest": _address(result["manifest"]), "Folder": _address(destination)}


def _web_address(url: str | None) -> str | None:
    """Return an address that a browser opens; None for one whose signature was left out."""
    from airflow_gpt_image.api.text import REDACTED_QUERY

    whole = url and url.startswith(("http://", "https://")) and not url.endswith(REDACTED_QUERY)
    return url if whole else None


def _address(place: object) -> str:
    text = str(place)
    return text if "://" in text else f"file://{text}"
