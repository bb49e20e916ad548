"""Buttons on a task's page in Airflow's UI: its images, one of them, its folder, manifest and generation.

Airflow asks for them on the worker when the task ends, and keeps them in XCom. Its pages show a link only to
an address that a browser opens, and a destination's (``s3://``, a path of the workers) is none. So what lies
there is linked to through the *Images* tab: an image to its picture, folder and manifest to the tab itself,
which has the images and the files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import RuntimeTaskInstanceProtocol, TaskInstanceKey


class _Link(BaseOperatorLink):
    """A link that the operator knows by its name."""

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the address; nothing when the task came to none."""
        links: Mapping[str, str] = getattr(operator, "links", {})
        return links.get(self.name, "")


class GalleryLink(BaseOperatorLink):
    """The tab that shows the task's images: from its end on, also where it failed."""

    name = "Gallery"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the tab's path."""
        from airflow_gpt_image.tasks.pages import images_tab

        return images_tab(ti_key)


class ImageLink(_Link):
    """The first image: as it is stored; else where the API put it."""

    name = "Image"


class FolderLink(_Link):
    """The folder that images are stored in: the tab that shows it."""

    name = "Folder"


class GenerationLink(_Link):
    """What the API says of the generation; it wants the key."""

    name = "Generation"


class ManifestLink(_Link):
    """What became of each image of a batch: the tab that shows it, and gives the file."""

    name = "Manifest"


def image_links(
    result: Mapping[str, Any],
    destination: object,
    base_url: str,
    ti: TaskInstanceKey | RuntimeTaskInstanceProtocol,
) -> dict[str, str]:
    """
    Return the links of a task that made one image, or waited for it.

    :param result: of the task.
    :param destination: its folder; None: there is none.
    :param base_url: of the API.
    :param ti: whose result it is.
    """
    from airflow_gpt_image.tasks.pages import images_tab, stored_image

    links = {"Generation": f"{base_url}/v1/tasks/{result['generation_id']}"}
    if result["path"] is not None:
        links["Image"] = stored_image(ti)
    elif image := _web_address(result["url"]):
        links["Image"] = image
    if destination is not None:
        links["Folder"] = images_tab(ti)
    return links


def batch_links(ti: TaskInstanceKey | RuntimeTaskInstanceProtocol) -> dict[str, str]:
    """Return the links of a task for a data set."""
    from airflow_gpt_image.tasks.pages import images_tab

    return dict.fromkeys(("Manifest", "Folder"), images_tab(ti))


def _web_address(url: str | None) -> str | None:
    """Return an address that a browser opens; None for one whose signature was left out."""
    from airflow_gpt_image.api.text import REDACTED_QUERY

    whole = url and url.startswith(("http://", "https://")) and not url.endswith(REDACTED_QUERY)
    return url if whole else None
