"""Store images: fetch them without the key, check them where nobody looks, publish each in one step."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_serializer

from airflow_gpt_image.api.models import GeneratedImage, Generation, ImageRequest
from airflow_gpt_image.api.retrying import Retrying
from airflow_gpt_image.api.sizes import Size
from airflow_gpt_image.api.text import REDACTED_QUERY, quote, quote_url, redact_queries
from airflow_gpt_image.errors import DownloadError, ImageRefusedError
from airflow_gpt_image.storage.folders import Folder
from airflow_gpt_image.storage.pictures import Picture, inspect_image, is_whole

if TYPE_CHECKING:
    from airflow_gpt_image.api.client import GptImageClient
    from airflow_gpt_image.log import Log

# No way out of the folder, and nothing hidden.
_INSIDE: Final = re.compile(r"(?!.*(?:^|/)\.)[A-Za-z0-9._~-]+(?:/[A-Za-z0-9._~-]+)*")


def _inside(name: object) -> object:
    if isinstance(name, str) and len(name) <= 1_000 and _INSIDE.fullmatch(name):
        return name
    raise ValueError("it is no name of a file inside the folder")


FileName = Annotated[str, BeforeValidator(_inside)]
"""The name of a file relative to its folder."""


class ImageFile(BaseModel):
    """
    One image of a generation, as records have it.

    :param url: where the API had it. Written down it has no query, which may be a signature.
    :param name: its file, relative to the folder; None when it was not stored.
    """

    model_config = ConfigDict(frozen=True)

    url: Annotated[str, Field(max_length=10_000)]
    name: FileName | None = None
    width: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    height: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    bytes: Annotated[int, Field(ge=0)] | None = None

    @field_serializer("url")
    def _without_signature(self, url: str) -> str:
        return redact_queries(url)

    @property
    def can_be_fetched(self) -> bool:
        """Return whether the address is whole."""
        return not self.url.endswith(REDACTED_QUERY)

    def located(self, folder: Folder | None) -> GeneratedImage:
        """
        Return the image as a task's result tells of it.

        Where it was not stored, its address is the result, with its signature; else nobody needs that.
        """
        path = folder.address(self.name) if folder is not None and self.name is not None else None
        fields = self.model_dump(include={"url", "width", "height", "sha256", "bytes"})
        return GeneratedImage(path=path, **fields if self.name is not None else {**fields, "url": self.url})


@dataclass(frozen=True)
class ImageFolder:
    """
    A folder that images are stored in.

    :param strict_size: refuse an image of another pixel size than was asked for; else it is kept, and warned
        of.
    """

    folder: Folder
    strict_size: bool = False

    def fetch_all(
        self,
        client: GptImageClient,
        generation: Generation,
        stems: Sequence[str],
        request: ImageRequest | None,
        log: Log,
        *,
        spares: Sequence[str] | None = None,
        age: float | None = None,
        retrying: Retrying | None = None,
    ) -> tuple[list[ImageFile], tuple[str, ...]]:
        """
        Fetch a completed generation's images, in the order of its URLs.

        :param stems: their names in the folder, without the endings.
        :param spares: names for those whose name another image has by now; None: they replace what is there.
        :param request: what was asked for; None when somebody else did.
        :param age: seconds since it was completed; None: that isn't known.
        :param retrying: how often each is asked for; None: as the client has it.
        :return: the images, and what is unusual about them.
        :raises ImageExpiredError: when the file host no longer has one.
        :raises DownloadError: or another subclass, when one doesn't arrive as it should.
        :raises DestinationError: when the folder doesn't take one. Nothing half-written is left, and trying
            again costs nothing.
        """
        files: list[ImageFile] = []
        warnings: list[str] = []
        for index, (url, stem) in enumerate(zip(generation.urls, stems, strict=True)):
            spare = spares[index] if spares is not None else None
            try:
                file, unusual = self.fetch(
                    client, url, stem, request, spare=spare, age=age, retrying=retrying
                )
            except DownloadError as error:
                raise about(generation.id, error) from error
            for warning in unusual:
                log.warning("%s", warning)
            files.append(file)
            warnings += unusual
        return files, tuple(warnings)

    def fetch(
        self,
        client: GptImageClient,
        url: str,
        stem: str,
        request: ImageRequest | None,
        *,
        spare: str | None = None,
        age: float | None = None,
        retrying: Retrying | None = None,
    ) -> tuple[ImageFile, tuple[str, ...]]:
        """
        Fetch one image, check it and publish it under this name; return it, and what is unusual about it.

        :param spare: its name if another image has the first one by now; None: it replaces what is there.
        :param age: as in :meth:`fetch_all`, ``retrying`` likewise.
        :raises DownloadError: or a subclass, when it doesn't arrive as it should.
        :raises DestinationError: when the folder doesn't take it.
        """
        with self.folder.draft(stem) as draft:
            downloaded = client.download(url, draft, age=age, retrying=retrying, whole=is_whole)
            picture = inspect_image(draft, quote_url(url))
            warnings = _warnings(picture, downloaded.content_type, request.sizes if request else ())
            if self.strict_size and request is not None and picture.size not in request.sizes:
                raise ImageRefusedError(f"{warnings[-1]}\nIt is not stored, for strict_size is set.")
            name = f"{stem}.{picture.kind}"
            if spare is None:
                self.folder.publish(draft, name)
            elif not (self.folder.publish_new(draft, name) or self._has(name, picture)):
                name = f"{spare}.{picture.kind}"
                self.folder.publish(draft, name)
        file = ImageFile(
            url=url,
            name=name,
            width=picture.size.width,
            height=picture.size.height,
            sha256=picture.sha256,
            bytes=picture.bytes,
        )
        return file, warnings

    def _has(self, name: str, picture: Picture) -> bool:
        """Return whether a file is this very image, which an earlier try stored before it died."""
        if self.folder.size(name) != picture.bytes:
            return False
        with tempfile.TemporaryFile() as file:
            self.folder.copy(name, file)
            file.seek(0)
            return hashlib.file_digest(file, "sha256").hexdigest() == picture.sha256


def _warnings(picture: Picture, content_type: str, expected: Sequence[Size]) -> tuple[str, ...]:
    said = content_type.partition(";")[0].strip().lower()
    found = []
    if said not in ("", "application/octet-stream", "binary/octet-stream", picture.content_type):
        found.append(
            f"The file host calls the image {quote(said)}; by its content it is {picture.content_type}."
        )
    if expected and picture.size not in expected:
        found.append(f"The image is {picture.size} pixels; {' or '.join(map(str, expected))} was asked for.")
    return tuple(found)


def about(generation_id: str, error: DownloadError) -> DownloadError:
    """Return the same error, saying which generation it is about, and what can be done."""
    refused = isinstance(error, ImageRefusedError)
    remedy = "" if refused else "\nIt is paid for: clear the task, and it is fetched again for nothing."
    return type(error)(
        f"Generation {generation_id}: {error.message}{remedy}",
        status=error.status,
        retry_after=error.retry_after,
        generation_id=generation_id,
    )
