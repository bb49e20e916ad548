"""Images land: fetched without the key, looked at while nobody sees them, published in one step, described.

Beside each image stands its sidecar, ``<name>.json``: what was asked for, what it cost and what arrived. The
sidecar comes after its image, so where one is read the image is there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from airflow_gpt_image.api.models import GeneratedImage, Generation, ImageRequest, check_generation_id
from airflow_gpt_image.api.sizes import Size
from airflow_gpt_image.api.text import quote_url
from airflow_gpt_image.errors import DestinationError, DownloadError, ImageExpiredError, ImageRefusedError
from airflow_gpt_image.storage.folders import Folder
from airflow_gpt_image.storage.names import OF_GENERATION, Names
from airflow_gpt_image.storage.pictures import Picture, examine, kind_of

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

    @property
    def place_in_all(self) -> tuple[object, ...]:
        """Which image it is, of how many, of which generation, for which request."""
        told = self.result
        return self.index, self.count, told.get("generation_id"), told.get("fingerprint")


class Made(BaseModel):
    """What another run's task returned, as far as this one may return it: it comes out of anybody's file."""

    generation_id: Annotated[str, BeforeValidator(check_generation_id)]
    status: str
    model: str
    aspect_ratio: str
    resolution: str
    credits: str
    usd: str
    fingerprint: str
    created_at: str | None
    completed_at: str | None
    metadata: dict[str, Any]


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
                image, picture, warnings = self.fetched(self.folder, client, url, names.stem(index), request)
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
                request=None if request is None else told(request),
                result=dict(result),
                stored_at=datetime.now(UTC),
            )
            self.folder.write(f"{names.stem(index)}.json", sidecar.model_dump_json(indent=1).encode())
            images.append(image)
        return images

    def holds(self, result: Mapping[str, Any]) -> bool:
        """Whether the images of an earlier result are (still) here, each with all its bytes."""
        return self.folder is None or all(self._has(self.folder, image) for image in result["images"])

    def found(self, fingerprint: str, request: ImageRequest, log: Log) -> dict[str, Any] | None:
        """
        The result of whoever stored this request's images here before; None when they aren't all here.

        Needs a template without anything but what follows from the request. Of a sidecar nothing is taken
        that leads elsewhere: the images are those beside it.

        :raises DestinationError: when a sidecar can't be read; that is not the same as none.
        """
        if self.folder is None:
            return None
        names = self._names({"fingerprint": fingerprint, "generation_id": ""}, request)
        first = _read(self.folder, names.stem(0))
        if first is None:
            return None
        others = [_read(self.folder, names.stem(index)) for index in range(1, first.count)]
        images = [
            self._beside(self.folder, names.stem(index), index, sidecar, first, request)
            for index, sidecar in enumerate((first, *others))
        ]
        result = Made.model_validate(first.result)
        if result.fingerprint != fingerprint or None in images:
            log.warning(
                "%s.json is there, but not all it tells of, or not as it tells: a new image is needed.",
                self.folder.address(names.stem(0)),
            )
            return None
        return result.model_dump() | {"images": [image.model_dump(mode="json") for image in images if image]}

    def _beside(
        self,
        folder: Folder,
        stem: str,
        index: int,
        sidecar: Sidecar | None,
        first: Sidecar,
        request: ImageRequest,
    ) -> GeneratedImage | None:
        """A sidecar's image, if it is this one of the first one's generation and as large as it says."""
        if sidecar is None or sidecar.place_in_all != (index, *first.place_in_all[1:]):
            return None
        image = sidecar.image
        name = f"{stem}.{kind_of(sidecar.content_type)}"
        sized = not self.strict_size or (image.width, image.height) in request.sizes
        if not sized or image.bytes is None or folder.size(name) != image.bytes:
            return None
        return image.model_copy(update={"path": folder.address(name)})

    def _names(self, known: Mapping[str, Any], request: ImageRequest | None) -> Names:
        own = {name: known.get(name) or "none" for name in ("generation_id", "fingerprint")}
        return Names(self.template, {**self.parts, **own}, prompt=request.prompt if request else None)

    def fetched(
        self, folder: Folder, client: GptImageClient, url: str, stem: str, request: ImageRequest | None
    ) -> tuple[GeneratedImage, Picture, tuple[str, ...]]:
        """
        Fetch one image, look at it and publish it under this name; with it, what is unusual about it.

        :raises DownloadError: or a subclass, when it doesn't arrive as it should.
        :raises DestinationError: when the destination doesn't take it.
        """
        with folder.draft(stem) as draft:
            downloaded = client.download(url, draft)
            picture = examine(draft, quote_url(url))
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


def told(request: ImageRequest) -> dict[str, Any]:
    """A request as sidecars tell it: reference images without their queries, which may hold signatures."""
    fields = request.model_dump(mode="json", exclude={"callback_url"})
    return {**fields, "image_urls": [url.partition("?")[0] for url in request.image_urls]}


# A prompt and sixteen addresses, as long as they may be, are a third of it.
_LARGEST_SIDECAR: Final = 1_000_000


def _read(folder: Folder, stem: str) -> Sidecar | None:
    """The sidecar of a request's image; None when there is none."""
    name = f"{stem}.json"
    size = folder.size(name)
    if size is None:
        return None
    data = folder.read(name) if size <= _LARGEST_SIDECAR else b""
    if data is None:
        return None
    try:
        sidecar = Sidecar.model_validate(json.loads(data))
        Made.model_validate(sidecar.result)
    except (ValueError, RecursionError) as error:
        # Not taken for "nothing there", which would pay again.
        raise DestinationError(
            f"{folder.address(name)} is no sidecar of this release ({type(error).__name__}). Mend it or "
            "remove it, and the image is paid for anew."
        ) from None
    return sidecar
