"""Images land: fetched without the key, looked at while nobody sees them, published in one step, described.

Beside each image stands its sidecar, ``<name>.json``: what was asked for, what it cost and what arrived. The
sidecar comes after its image, so where one is read the image is there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from airflow_gpt_image.api import flows
from airflow_gpt_image.api.errors import DownloadError, ImageExpiredError, ImageRefusedError
from airflow_gpt_image.api.models import GeneratedImage, Generation, ImageRequest
from airflow_gpt_image.api.sizes import Size
from airflow_gpt_image.storage.folders import DestinationError, Folder
from airflow_gpt_image.storage.names import OF_GENERATION, Names
from airflow_gpt_image.storage.pictures import Picture, examine

if TYPE_CHECKING:
    from airflow_gpt_image.api.client import GptImageClient
    from airflow_gpt_image.log import Log


class Sidecar(BaseModel):
    """
    What stands beside an image.

    :param index: of this image among those of its generation, from 0; ``count`` is how many those are.
    :param request: None for a generation that somebody else submitted. Its reference images are without
        their queries, which may hold signatures.
    :param result: what the task returned, less the images.
    :param warnings: what was unusual about the image.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    index: int = Field(ge=0)
    count: int = Field(ge=1, le=100)
    image: GeneratedImage
    content_type: str
    warnings: tuple[str, ...]
    request: dict[str, Any] | None
    result: dict[str, Any]
    stored_at: AwareDatetime


@dataclass(frozen=True)
class Landing:
    """
    Where the images of a task land, and how.

    :param folder: None: they stay where the API put them.
    :param template: of their names, as :mod:`airflow_gpt_image.storage.names` has it.
    :param parts: what names may hold besides what the generation and the request give.
    :param strict_size: refuse an image of another pixel size than was asked for; else it is kept, and said.
    """

    folder: Folder | None
    template: str = OF_GENERATION
    parts: Mapping[str, object] = field(default_factory=dict)
    strict_size: bool = False

    def land(
        self,
        client: GptImageClient,
        generation: Generation,
        result: Mapping[str, Any],
        request: ImageRequest | None,
        log: Log,
    ) -> list[GeneratedImage]:
        """
        Fetch a completed generation's images, in the order of its URLs.

        :param result: what the task will return of the generation, for the sidecars.
        :param request: what was asked for; None when somebody else did.
        :raises ImageExpiredError: when the file host no longer has one.
        :raises DownloadError: or another subclass, when one doesn't arrive as it should.
        :raises DestinationError: when the destination doesn't take one. Nothing half-written is left, and
            landing again costs nothing.
        """
        if self.folder is None:
            return [GeneratedImage(url=url) for url in generation.urls]
        names = self._names({**result, "generation_id": generation.id}, request)
        images = []
        for index, url in enumerate(generation.urls):
            try:
                image, picture, warnings = self._fetched(self.folder, client, url, names.stem(index), request)
            except DownloadError as error:
                raise _about(generation, error) from error
            for warning in warnings:
                log.warning("%s", warning)
            log.info("Image: %s", image.path)
            sidecar = Sidecar(
                index=index,
                count=len(generation.urls),
                image=image,
                content_type=picture.content_type,
                warnings=warnings,
                request=None if request is None else _told(request),
                result=dict(result),
                stored_at=datetime.now(UTC),
            )
            self.folder.write(f"{names.stem(index)}.json", sidecar.model_dump_json(indent=1).encode())
            images.append(image)
        return images

    def holds(self, result: Mapping[str, Any]) -> bool:
        """Whether the images of an earlier result are (still) here, each with all its bytes."""
        return self.folder is None or all(self._has(self.folder, image) for image in result["images"])

    def found(self, fingerprint: str, request: ImageRequest) -> dict[str, Any] | None:
        """
        The result of whoever stored this request's images here before; None when they aren't all here.

        Needs a template without anything but what follows from the request.
        """
        if self.folder is None:
            return None
        names = self._names({"fingerprint": fingerprint, "generation_id": ""}, request)
        first = _read(self.folder, names.stem(0))
        if first is None:
            return None
        others = [_read(self.folder, names.stem(index)) for index in range(1, first.count)]
        sidecars = [sidecar for sidecar in (first, *others) if sidecar is not None]
        result = {**first.result, "images": [sidecar.image.model_dump(mode="json") for sidecar in sidecars]}
        same = {
            (sidecar.result.get("fingerprint"), sidecar.result.get("generation_id")) for sidecar in sidecars
        }
        whole = len(sidecars) == first.count and same == {(fingerprint, result.get("generation_id"))}
        return result if whole and self.holds(result) else None

    def _names(self, known: Mapping[str, Any], request: ImageRequest | None) -> Names:
        own = {name: known.get(name) or "none" for name in ("generation_id", "fingerprint")}
        return Names(self.template, {**self.parts, **own}, prompt=request.prompt if request else None)

    def _fetched(
        self, folder: Folder, client: GptImageClient, url: str, stem: str, request: ImageRequest | None
    ) -> tuple[GeneratedImage, Picture, tuple[str, ...]]:
        with folder.draft(stem) as draft:
            downloaded = client.download(url, draft)
            picture = examine(draft, flows.bare(url))
            warnings = _oddities(picture, downloaded.content_type, request.sizes if request else ())
            if self.strict_size and request is not None and picture.size not in request.sizes:
                raise ImageRefusedError(f"{warnings[-1]} It is not stored, for strict_size is set.")
            path = folder.publish(draft, f"{stem}.{picture.kind}")
        image = GeneratedImage(
            url=url,
            path=path,
            width=picture.size.width,
            height=picture.size.height,
            sha256=picture.sha256,
            bytes=picture.bytes,
        )
        return image, picture, warnings

    @staticmethod
    def _has(folder: Folder, image: Mapping[str, Any]) -> bool:
        name = folder.name_of(image["path"]) if image.get("path") else None
        return name is not None and folder.size(name) == image["bytes"]


def _oddities(picture: Picture, content_type: str, expected: Sequence[Size]) -> tuple[str, ...]:
    said = content_type.partition(";")[0].strip().lower()
    found = []
    if said not in ("", "application/octet-stream", "binary/octet-stream", picture.content_type):
        found.append(f"The file host calls the image {said!r}; by its content it is {picture.content_type}.")
    if expected and picture.size not in expected:
        found.append(f"The image is {picture.size} pixels; {' or '.join(map(str, expected))} was asked for.")
    return tuple(found)


def _about(generation: Generation, error: DownloadError) -> DownloadError:
    """The same error, saying which generation it is about, and what can be done."""
    remedy = (
        " It is paid for, and only a new generation brings another image: clear the task with "
        "on_clear='regenerate'."
        if isinstance(error, ImageExpiredError)
        else ""
    )
    return type(error)(
        f"Generation {generation.id}: {error.message}{remedy}",
        status=error.status,
        retry_after=error.retry_after,
        generation_id=generation.id,
    )


def _told(request: ImageRequest) -> dict[str, Any]:
    fields = request.model_dump(mode="json", exclude={"callback_url"})
    return {**fields, "image_urls": [url.partition("?")[0] for url in request.image_urls]}


def _read(folder: Folder, stem: str) -> Sidecar | None:
    data = folder.read(f"{stem}.json")
    if data is None:
        return None
    try:
        return Sidecar.model_validate(json.loads(data))
    except (ValueError, ValidationError, RecursionError) as error:
        # Not taken for "nothing there", which would pay again.
        raise DestinationError(
            f"{folder.address(stem)}.json is no sidecar of this release ({type(error).__name__}). Mend it or "
            "remove it, and the image is paid for anew."
        ) from None
