"""Check the fields of a request, each by its rule of the API document, without pydantic.

A DAG file is parsed over and over, and this is all it needs. A request asks the same functions. What they
raise is a ValueError of three lines: the value, the rule, the remedy.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from airflow_gpt_image.api import sizes
from airflow_gpt_image.api.sizes import Resolution

if TYPE_CHECKING:
    from airflow_gpt_image.errors import InvalidRequestError

FIELDS: Final = ("prompt", "image_urls", "aspect_ratio", "resolution", "nsfw_checker", "callback_url")
"""The fields of a request."""

MAX_PROMPT_CHARACTERS: Final = 20_000
MAX_IMAGE_URLS: Final = 16

_TWO_NUMBERS: Final = re.compile(r"\s*([0-9]{1,5})\s*[:xX×*/-]\s*([0-9]{1,5})\s*")
_WORDS: Final = {"square": "1:1", "landscape": "3:2", "portrait": "2:3"}


def refusal(value: object, rule: str, remedy: str, *, fault: str) -> ValueError:
    """Return the error about a value; ``fault`` says after it what is wrong with it."""
    from airflow_gpt_image.api.text import quote

    return ValueError(f"{quote(value)} {fault}.\n{rule}\n{remedy}")


# The id becomes a part of a path and of log lines, so it must not be able to be anything else there.
_GENERATION_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


def check_generation_id(value: object) -> str:
    """Return the value if it can be a generation id."""
    if not isinstance(value, str) or not _GENERATION_ID.fullmatch(value):
        rule = "It has 1 to 128 letters, digits, '_' or '-'."
        raise refusal(
            value, rule, "Give the API's taskId, or a result with it.", fault="is not a generation id"
        )
    return value


def check_prompt(prompt: object) -> str | None:
    """Return the prompt; None is none."""
    if prompt is None:
        return None
    if not isinstance(prompt, str):
        rule = f"A prompt is text of at most {MAX_PROMPT_CHARACTERS:,} characters."
        raise refusal(prompt, rule, "Give the text itself.", fault="must be a string")
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        from airflow_gpt_image.api.text import quote

        rule = f"The API takes at most {MAX_PROMPT_CHARACTERS:,} characters."
        raise ValueError(f"{quote(prompt, 40)} is too long.\n{rule}\nShorten it.")
    if not prompt.strip():
        rule = "A prompt says what to draw."
        raise refusal(prompt, rule, "Write one, or leave it out and give image_urls.", fault="is blank")
    try:
        prompt.encode()
    except UnicodeEncodeError:
        rule = "Such text can't be sent."
        fault = "contains half a surrogate pair"
        raise refusal(prompt, rule, "Remove that character.", fault=fault) from None
    return prompt


def check_image_urls(urls: object) -> tuple[str, ...]:
    """Return the addresses of the reference images; None is none."""
    if not urls and (urls is None or isinstance(urls, (list, tuple))):
        return ()
    from airflow_gpt_image.api.addresses import check_reference

    if not isinstance(urls, (list, tuple)):
        rule = "image_urls is a list of addresses, even for a single one."
        raise refusal(urls, rule, "Put it in brackets.", fault="is not a list")
    if len(urls) > MAX_IMAGE_URLS:
        raise ValueError(
            f"{len(urls)} reference images; at most {MAX_IMAGE_URLS} are allowed.\n"
            "The API takes no more in one request.\n"
            "Leave some out."
        )
    for index, url in enumerate(urls):
        try:
            check_reference(url)
        except ValueError as error:
            raise ValueError(f"item {index}: {error}") from None
    return tuple(urls)


def read_aspect_ratio(given: object) -> str:
    """Return the aspect ratio as the API takes it: ``1024X1024`` and ``1024×1024`` are ``1024x1024``."""
    if isinstance(given, str):
        pixels = given.replace("X", "x").replace("×", "x")
        size = sizes.parse_size(pixels)
        if size is not None and sizes.tier_of(size) is not None:
            return pixels
        if given == sizes.AUTO or given in sizes.RATIOS:
            return given
        if size is not None and f"{size.width}:{size.height}" not in sizes.RATIOS:
            rule = "A pixel size has to be one of the API's table Size & Resolution."
            remedy = f"The nearest is {str(sizes.nearest_size(size))!r}; or give a ratio and a resolution."
            raise refusal(given, rule, remedy, fault="is not a pixel size of the API")
    raise refusal(
        given,
        f"One of {sizes.AUTO}, {', '.join(sizes.RATIOS)}.",
        f"{_ratio_meant(given)} A pixel size such as 1536x864 is taken, too.",
        fault="is not an aspect ratio" if isinstance(given, str) else "must be a string",
    )


def _ratio_meant(given: object) -> str:
    """Return the remedy for what is no aspect ratio: the one that is meant, or is nearest to it."""
    if not isinstance(given, str):
        return "Give one of them as a string."
    word = given.strip().lower()
    meant = word if word == sizes.AUTO else _WORDS.get(word)
    numbers = _TWO_NUMBERS.fullmatch(given)
    if numbers is not None and int(numbers[1]) and int(numbers[2]):
        width, height = int(numbers[1]), int(numbers[2])
        size = sizes.Size(width, height)
        meant = str(size) if sizes.tier_of(size) is not None else f"{width}:{height}"
        if meant not in sizes.RATIOS and sizes.tier_of(size) is None:
            return f"The nearest is {sizes.nearest_ratio(width, height)!r}."
    return "Give one of them." if meant is None else f"Did you mean {meant!r}?"


def read_resolution(given: object, aspect_ratio: str | None) -> Resolution:
    """
    Return the tier: ``2K`` is ``2k``; None is the tier of an explicit pixel size, else 1k.

    :param aspect_ratio: as :func:`read_aspect_ratio` returns it; None: that isn't known, or was refused.
    """
    size = sizes.parse_size(aspect_ratio or "")
    tier = sizes.tier_of(size) if size is not None else None
    if given is None:
        return tier or sizes.DEFAULT_RESOLUTION
    resolution = given.lower() if isinstance(given, str) else given
    if not isinstance(resolution, str) or resolution not in sizes.RESOLUTIONS:
        rule = f"One of {', '.join(sizes.RESOLUTIONS)}."
        remedy = f"Give one of them; the default is {sizes.DEFAULT_RESOLUTION}."
        raise refusal(given, rule, remedy, fault="is not a resolution")
    if tier is not None and resolution != tier:
        rule = f"That size is one of the tier {tier}."
        fault = f"contradicts aspect_ratio={aspect_ratio!r}"
        raise refusal(given, rule, f"Leave resolution out, or say {tier!r}.", fault=fault)
    return resolution


def check_nsfw_checker(given: object) -> bool:
    """Return whether the API's safety check is on."""
    if not isinstance(given, bool):
        rule = "It switches the API's safety check on or off."
        raise refusal(given, rule, "Leave it out for the default, True.", fault="must be True or False")
    return given


def check_callback_url(url: object) -> str | None:
    """Return the address the API shall notify; None is none."""
    if url is None:
        return None
    from airflow_gpt_image.api.addresses import check_url
    from airflow_gpt_image.api.text import quote_host

    if not isinstance(url, str):
        rule = "It is the address that the API notifies at the end."
        raise refusal(url, rule, "Give one like https://host/path.", fault="must be a string")
    # Whoever knows its path or query can call it, so neither is in a message.
    return check_url(url, quote_host)


_CHECKS: Final[Mapping[str, Callable[[Any], object]]] = {
    "prompt": check_prompt,
    "image_urls": check_image_urls,
    "aspect_ratio": read_aspect_ratio,
    "nsfw_checker": check_nsfw_checker,
    "callback_url": check_callback_url,
}

NOTHING_TO_DRAW: Final = (
    "neither prompt nor image_urls is given.\nAt least one is required.\nGive a prompt, or reference images."
)


def check_fields(given: Mapping[str, Any]) -> None:
    """
    Check the fields that are given, and nothing about those that aren't.

    :raises InvalidRequestError: naming every field at fault.
    """
    problems: list[tuple[str, str]] = []
    for name, value in given.items():
        if name == "resolution":
            continue
        try:
            _CHECKS[name](value)
        except ValueError as error:
            problems.append((name, str(error)))
    if given.get("resolution") is not None:
        try:
            read_resolution(given["resolution"], _readable_aspect_ratio(given))
        except ValueError as error:
            problems.append(("resolution", str(error)))
    both = {"prompt", "image_urls"} <= given.keys()
    if both and not problems and given["prompt"] is None and not given["image_urls"]:
        problems.append(("prompt", NOTHING_TO_DRAW))
    if problems:
        raise invalid(problems)


def _readable_aspect_ratio(given: Mapping[str, Any]) -> str | None:
    try:
        return read_aspect_ratio(given["aspect_ratio"])
    except (KeyError, ValueError):
        return None


def invalid(problems: Sequence[tuple[str, str]]) -> InvalidRequestError:
    """Return the error about a request, with all that is wrong with it."""
    from airflow_gpt_image.errors import InvalidRequestError, Problem

    text = "\n".join(f"{field}: {message}" if field else message for field, message in problems)
    return InvalidRequestError(text, code="invalid_request", problems=[Problem(*told) for told in problems])
