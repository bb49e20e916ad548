"""Define what goes to the API and what comes back, as frozen values.

What we send is checked strictly, against every rule of the API document, before money is spent. What comes
back is read leniently where nothing depends on it (an unknown field, a junk timestamp) and strictly where
something does.
"""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    StrictBool,
    StrictStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from airflow_gpt_image.api import pricing, rules, sizes
from airflow_gpt_image.api.sizes import Resolution
from airflow_gpt_image.api.text import bounded, quote, redact_queries, storable
from airflow_gpt_image.errors import Problem

MODEL: Final = "gpt-image-2"
STATUSES: Final = ("pending", "processing", "completed", "failed")
"""The words of the API document's status flow."""


class ImageRequest(BaseModel):
    """Describe one image to be made. Checked when it is created; every rule is the API document's.

    :param prompt: what to draw; at most 20,000 characters. Required unless there are reference images.
    :param image_urls: up to 16 addresses of reference images, in order: http(s), or an object's on a store
        such as ``s3://bucket/key``, which has to be signed before it can be submitted.
    :param aspect_ratio: ``auto`` (treated as 1:1), one of the 15 ratios, or a pixel size of the table such as
        ``1881x836``; ``1881X836`` and ``1881×836`` are the same.
    :param resolution: the tier, ``1k``, ``2k`` or ``4k``; capital letters are taken. None means the tier of
        an explicit pixel size, else 1k; the attribute always holds the resolved tier.
    :param nsfw_checker: the API's safety check; on by default.
    :param callback_url: http(s) address the API shall notify at the end.
    :raises InvalidRequestError: naming every field at fault with its value, the rule and the remedy.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    prompt: StrictStr | None = None
    image_urls: tuple[StrictStr, ...] = ()
    aspect_ratio: StrictStr = sizes.AUTO
    # Declared optional for callers; the validator below never leaves None behind.
    resolution: Resolution = Field(default=None, validate_default=True)
    nsfw_checker: StrictBool = True
    callback_url: StrictStr | None = None

    @field_validator("prompt", mode="before")
    @classmethod
    def _prompt(cls, prompt: object) -> object:
        return rules.check_prompt(prompt)

    @field_validator("image_urls", mode="before")
    @classmethod
    def _image_urls(cls, urls: object) -> object:
        return rules.check_image_urls(urls)

    @field_validator("aspect_ratio", mode="before")
    @classmethod
    def _aspect_ratio(cls, aspect_ratio: object) -> object:
        return rules.read_aspect_ratio(aspect_ratio)

    @field_validator("resolution", mode="before")
    @classmethod
    def _resolution(cls, resolution: object, info: ValidationInfo) -> object:
        # An aspect ratio that was refused is not in info.data; then there is nothing to contradict.
        return rules.read_resolution(resolution, info.data.get("aspect_ratio"))

    @field_validator("nsfw_checker", mode="before")
    @classmethod
    def _nsfw_checker(cls, nsfw_checker: object) -> object:
        return rules.check_nsfw_checker(nsfw_checker)

    @field_validator("callback_url", mode="before")
    @classmethod
    def _callback_url(cls, url: object) -> object:
        return rules.check_callback_url(url)

    @model_validator(mode="wrap")
    @classmethod
    def _raise_all_problems(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Raise all problems at once, as our own error; pydantic's text would quote whole prompts."""
        try:
            request = handler(data)
        except ValidationError as error:
            raise rules.invalid([_problem(details) for details in error.errors(include_url=False)]) from None
        if request.prompt is None and not request.image_urls:
            raise rules.invalid([("prompt", rules.NOTHING_TO_DRAW)])
        return request

    @property
    def credits(self) -> Decimal:
        """Return what the generation is charged by default, in credits."""
        return pricing.CREDITS[self.resolution]

    @property
    def sizes(self) -> tuple[sizes.Size, ...]:
        """Return the pixel sizes the image may come in."""
        return sizes.sizes_of(self.aspect_ratio, self.resolution)


def _problem(details: Any) -> Problem:
    field = ".".join(str(part) for part in details["loc"])
    if details["type"] == "value_error":
        return Problem(field, str(details["ctx"]["error"]))
    if details["type"] == "extra_forbidden":
        known = ", ".join(ImageRequest.model_fields)
        return Problem(
            field,
            f"{quote(details['input'])} is given, but {quote(field)} is not a field of a request.\n"
            f"The fields are {known}.\nLeave it out, or name one of them.",
        )
    return Problem(field, f"{quote(details['input'])} is not valid.\n{details['msg']}.\nGive fields by name.")


_FIRST_MOMENT: Final = datetime(2000, 1, 1, tzinfo=UTC)
_LAST_MOMENT: Final = datetime(2100, 1, 1, tzinfo=UTC)


def _parse_moment(value: object) -> datetime | None:
    # Seconds since 1970. Informative only: a value that makes no sense is no reason to lose a paid image.
    if isinstance(value, datetime):
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        moment = datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return moment if _FIRST_MOMENT <= moment < _LAST_MOMENT else None


def _keep_text(value: object) -> str | None:
    return bounded(value) if isinstance(value, str) else None


def _parse_status(value: object) -> object:
    # What is longer is no word of the API's; it counts as one that nobody knows.
    if not isinstance(value, str):
        return value
    word = value.strip()
    return word.lower() if word.lower() in STATUSES else bounded(word)[:64]


def _parse_urls(value: object) -> object:
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, (list, tuple)):
        return value or ()
    # What is no text beside an address is no reason to lose the address.
    return tuple(url for url in value if isinstance(url, str)) or tuple(value)


# Seconds. Machines of one service differ by less; a completion that is further ahead is no time of one.
_CLOCK_DIFFERENCE: Final = 300.0

# Ours: a response with more of them isn't the API's, and mustn't fill a user's storage.
_MAX_IMAGES: Final = 100

# The API's own words about a generation go into XCom, which is no place for large things.
_MAX_METADATA_CHARACTERS: Final = 2_000


def _parse_metadata(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {}
    try:
        found: dict[str, Any] = {}
        length = len(json.dumps(value))
        # Looking through a megabyte, text by text, would hold up an event loop.
        if length <= 10 * _MAX_METADATA_CHARACTERS:
            found = _redact(value)
            length = len(json.dumps(found, allow_nan=False))
    except (ValueError, TypeError, RecursionError):
        return {}
    return found if length <= _MAX_METADATA_CHARACTERS else {"omitted": f"{length:,} characters"}


def _redact(value: Any) -> Any:
    """Return the same JSON value, storable, without the queries of addresses, keys included."""
    if isinstance(value, str):
        return storable(redact_queries(value))
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, (list, tuple)):
        return [_redact(item) for item in value]
    if isinstance(value, dict):  # an XCom with Airflow's own names is refused, or read as an object
        return {_redact(key): _redact(item) for key, item in value.items() if str(key)[:2] != "__"}
    return value


_Url = Annotated[StrictStr, Field(max_length=10_000)]
Moment = Annotated[datetime | None, BeforeValidator(_parse_moment)]
Text = Annotated[str | None, BeforeValidator(_keep_text)]


def parse_generation_id(value: object) -> str:
    """Return an id of the API's own answer, checked; a number becomes text.

    :raises ValueError: when it can't be one.
    """
    return rules.check_generation_id(
        str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    )


class GenerationFailure(BaseModel):
    """Say why a generation failed: a code of the error table and a message."""

    model_config = ConfigDict(frozen=True)

    code: Text = None
    message: Text = None
    type: Text = None


class GenerationOutput(BaseModel):
    """Say where the images are.

    ``metadata`` is kept as it comes, up to 2,000 characters of JSON, without the queries of addresses and
    names that begin with ``__``.
    """

    model_config = ConfigDict(frozen=True)

    urls: Annotated[tuple[_Url, ...], Field(max_length=_MAX_IMAGES), BeforeValidator(_parse_urls)] = ()
    metadata: Annotated[dict[str, Any], BeforeValidator(_parse_metadata)] = Field(default_factory=dict)


class Generation(BaseModel):
    """Describe one remote job, as the API does (which calls it a task).

    ``status`` is one of :data:`STATUSES`; a word the document doesn't know is kept and counts as not
    finished. Times are UTC, None when the API gave none that can be read. Texts are bounded and storable.

    :param told_at: when the API said so, by its own clock.
    """

    model_config = ConfigDict(frozen=True)

    id: Annotated[str, BeforeValidator(parse_generation_id)]
    status: Annotated[str, Field(min_length=1, strict=True), BeforeValidator(_parse_status)]
    model: Text = None
    created_at: Moment = None
    completed_at: Moment = None
    output: GenerationOutput = Field(default_factory=GenerationOutput)
    error: GenerationFailure = Field(default_factory=GenerationFailure)
    told_at: Moment = None

    @field_validator("output", "error", mode="before")
    @classmethod
    def _none_is_empty(cls, value: object) -> object:
        return value if isinstance(value, (dict, BaseModel)) else {}

    @property
    def finished(self) -> bool:
        """Return whether it is completed or failed: the API will not change it again."""
        return self.status in ("completed", "failed")

    @property
    def age(self) -> float | None:
        """Return the seconds from its completion until the API told of it; None: the API gave no such times.

        Both are the API's own times, so no clock of ours makes an image younger or older.
        """
        ended = self.completed_at or self.created_at
        if self.told_at is None or ended is None:
            return None
        seconds = (self.told_at - ended).total_seconds()
        return max(0.0, seconds) if seconds > -_CLOCK_DIFFERENCE else None

    @property
    def lag(self) -> float | None:
        """Return the seconds from its end until the API told of it; None: the API gave no such times."""
        return None if self.completed_at is None else self.age

    @property
    def urls(self) -> tuple[str, ...]:
        return self.output.urls


class GeneratedImage(BaseModel):
    """Describe one image of a generation; everything but ``url`` is None as long as it isn't stored.

    :param url: where the API said it is; such an address does not live for ever.
    :param path: where it was stored.
    :param width: in pixels, read from the image itself; likewise ``height``.
    :param sha256: of the stored bytes, in hex.
    :param bytes: how many they are.
    """

    model_config = ConfigDict(frozen=True)

    url: str
    path: str | None = None
    width: int | None = None
    height: int | None = None
    sha256: str | None = None
    bytes: int | None = None
