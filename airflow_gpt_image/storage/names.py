"""Names for images: safe on every store, inside the destination, and nobody else's.

A name is a template of the author's, such as ``{run_id}/{slug}-{generation_id}``, filled with parts that hold
nothing but letters, digits, ``.``, ``_`` and ``-``. What had to be changed for that carries ``~`` and a few
digits of its hash, so that two different parts never become the same name; and so does what has capital
letters, for there are disks that take ``Shop`` and ``shop`` for one name. Names that a system keeps to
itself, and those of our own files, are set apart by a ``~`` in front. Storing a second time gives the same
names.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from string import Formatter
from types import MappingProxyType
from typing import Final

from airflow_gpt_image.api.text import quote
from airflow_gpt_image.errors import InvalidRequestError, Problem

PARTS: Final = ("generation_id", "fingerprint", "index", "dag_id", "run_id", "task_id", "map_index", "slug")

OF_GENERATION: Final = "{generation_id}-{index}"
OF_REQUEST: Final = "{fingerprint}-{index}"

# Sets of parts of which each tells one image from every other one.
_IDENTITIES: Final = (
    frozenset({"generation_id"}),
    frozenset({"dag_id", "run_id", "task_id", "map_index"}),
)

# Parts of any length that would hide where one ends and the next begins: task "a" at 11 is no "a1" at 1.
_TEXT: Final = r"\{(?:dag_id|run_id|task_id|slug)\}"
_TEXT_OR_NUMBER: Final = r"\{(?:dag_id|run_id|task_id|slug|map_index|index)\}"
_RUN_TOGETHER: Final = re.compile(rf"{_TEXT}[^/]*{_TEXT}|{_TEXT_OR_NUMBER}\d*{_TEXT_OR_NUMBER}")

_ENDING: Final = re.compile(r"\.(?:png|jpe?g|webp|gif)$", re.IGNORECASE)

_SAFE: Final = re.compile(r"[A-Za-z0-9._-]+")
_LONGEST_PART: Final = 100
_LONGEST_SLUG: Final = 60

# A file system's bound for a name is 255 bytes; the ending needs some.
_LONGEST_NAME: Final = 240

# A store's bound for a key is 1,024 bytes; the destination needs some.
_LONGEST_PATH: Final = 700

# Before what we add to an author's word, a hash or an index. No plain part holds it, so none can imitate one.
_ADDED: Final = "~"


# Windows keeps these for devices, whatever ending they have.
_DEVICES: Final = frozenset(
    {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}
)

SPLIT_WORDS: Final = (
    *("train", "training", "validation", "valid", "val", "dev"),
    *("test", "testing", "eval", "evaluation"),
)
"""Words in a file's name by which Hugging Face's datasets tell its split; files without one are left out."""

_SPLIT_WORD: Final = re.compile(rf"(?<![a-z])(?:{'|'.join(SPLIT_WORDS)})(?![a-z])")

# What we ourselves write right at a destination: a folder of this name would be in the way, or be read.
_OURS: Final = re.compile(
    r"records|items|locks|(?:map|iteration)-[0-9]+(?:-map-[0-9]+)?|[^~]*\.(?:jsonl|csv|html|parquet)|summary\.json"
)


def is_reserved(segment: str, *, first: bool) -> bool:
    """
    Return whether a file or folder can't have a name, in whatever case: a device's, or one of our own.

    :param first: whether it stands right at the destination, where our own are.
    """
    name = segment.lower()
    return name.partition(".")[0] in _DEVICES or (first and _OURS.fullmatch(name) is not None)


def check_filename(template: object, *, across_runs: bool) -> str:
    """
    Read a template of names.

    :param across_runs: that an image shall be found by its name from any run: then the name must follow from
        the request alone.
    :raises InvalidRequestError: with the value, the rule and an example.
    """
    text = template if isinstance(template, str) else ""
    fault, rule = _broken_rule(text, across_runs=across_runs)
    if fault:
        example = OF_REQUEST if across_runs else "{slug}-{generation_id}-{index}"
        raise refused_name(template, fault, f"Give one such as {example!r}.", why=rule)
    if ending_of(text):
        raise ends_like_a_picture(text)
    return text


def ending_of(name: str) -> str:
    """Return the ending of a picture that a name has, such as ``.png``; nothing when it has none."""
    found = _ENDING.search(name)
    return found[0] if found else ""


def ends_like_a_picture(template: str) -> InvalidRequestError:
    """Return the error about a template of names that has an ending."""
    ending = ending_of(template)
    return refused_name(
        template,
        f"ends in {ending!r}, and images would be called {ending + ending!r}",
        f"Leave the ending out: {template.removesuffix(ending)!r}.",
        why="The ending follows from the image itself, and is added.",
    )


def refused_name(
    template: object,
    rule: str,
    remedy: str,
    *,
    why: str = "An image's name is its own, and safe on every store.",
) -> InvalidRequestError:
    """Return the error about a template of names."""
    message = f"{quote(template)} {rule}.\n{why}\n{remedy}"
    return InvalidRequestError(f"filename: {message}", problems=[Problem("filename", message)])


def _broken_rule(text: str, *, across_runs: bool) -> tuple[str, str]:
    """Return what is wrong with a template of names, and the rule; nothing when nothing is."""
    try:
        pieces = list(Formatter().parse(text))
    except ValueError:
        return "is no template of names", "Each part stands in one pair of braces."
    names = {name for _, name, _, _ in pieces if name is not None}
    if any(spec or conversion for _, _, spec, conversion in pieces) or not names <= set(PARTS):
        return "holds something else than our parts", f"The parts are {', '.join(PARTS)}."
    literal = "".join(piece[0] for piece in pieces)
    if not all(character == "/" or _SAFE.fullmatch(character) for character in literal):
        rule = "It may hold letters, digits, '.', '_', '-' and '/' beside its parts."
        return "holds a character that some store doesn't take", rule
    filled = text.format(**dict.fromkeys(PARTS, "x" * _LONGEST_PART))
    if any(not segment or segment != segment.strip(".") for segment in filled.split("/")):
        rule = "It must be a path inside the destination, without empty folders, and no '.' at their ends."
        return "is no such path", rule
    if any(is_reserved(segment, first=not index) for index, segment in enumerate(filled.split("/"))):
        return "holds a reserved name", "Those are our own folders, such as records, and Windows' devices."
    if len(filled) > _LONGEST_PATH:
        return "is too long", f"With its parts it can reach {len(filled):,} characters of {_LONGEST_PATH}."
    if across_runs and ("fingerprint" not in names or names - {"fingerprint", "index", "slug"}):
        rule = "With reuse='destination' a name follows from its request: {fingerprint}, {slug}, {index}."
        return "doesn't find an image again in another run", rule
    if not across_runs and not any(identity <= names for identity in _IDENTITIES):
        rule = "It must hold {generation_id}; or {dag_id}, {run_id}, {task_id} and {map_index}."
        return "doesn't tell an image from every other one", rule
    if not across_runs and "generation_id" not in names and _RUN_TOGETHER.search(text):
        rule = "Put '/' between {dag_id}, {run_id}, {task_id} and {slug}, and '-' beside a number."
        return "has parts that run into each other, so two tasks could share a name", rule
    return "", ""


class Names:
    """
    Names of images, as far as they follow from the task.

    :param template: as :func:`check_filename` takes it.
    :param parts: what is known of the task: ``dag_id``, ``run_id``, ``task_id``, ``map_index``.
    """

    def __init__(self, template: str, parts: Mapping[str, object] = MappingProxyType({})) -> None:
        self._template = template
        self._parts = {name: safe_part(str(value)) for name, value in parts.items()}

    def of(self, fingerprint: str, generation_id: str, prompt: str | None) -> Names:
        """
        Return the names of one generation's images.

        :param prompt: gives the slug.
        """
        parts = {"fingerprint": fingerprint, "generation_id": generation_id}
        known = Names(self._template, parts)
        known._parts |= {**self._parts, "slug": slug_of(prompt)}
        return known

    def shared_stem(self, fingerprint: str, prompt: str | None) -> str:
        """Return the first image's name as far as it follows from the request alone."""
        return self.of(fingerprint, "none", prompt).stem(0)

    def stem(self, index: int) -> str:
        """Return the name without its ending; those after the first have their index in any case."""
        numbered = "{index}" in self._template or index == 0
        template = self._template if numbered else self._template + _ADDED + "{index}"
        filled = template.format(**self._parts, index=index)
        segments = enumerate(map(cut_segment, filled.split("/")))
        return "/".join(_ADDED + s if is_reserved(s, first=not index) else s for index, s in segments)

    def set_apart(self, stem: str) -> str:
        """Return a name like this one that is no other generation's."""
        folder, slash, name = stem.rpartition("/")
        return folder + slash + cut_segment(f"{name}{_ADDED}{self._parts['generation_id']}")


def is_safe(text: str) -> bool:
    """Return whether it can stand in the name of a file on every store."""
    return _SAFE.fullmatch(text) is not None


def safe_part(text: str, *, keep_case: bool = False) -> str:
    """
    Return a text as a part of a name; what had to be changed for that carries digits of its hash.

    :param keep_case: for a caller that takes care that no two names differ by case alone, which some stores
        don't see.
    """
    plain = _SAFE.fullmatch(text) and text == text.strip(".") and (keep_case or text == text.lower())
    if plain and len(text) <= _LONGEST_PART:
        return text
    words = re.sub(r"[^A-Za-z0-9._-]+", "_", text).lstrip(".")[: _LONGEST_PART - 9]
    return f"{words}{_ADDED}{_hash(text)}"


def slug_of(prompt: str | None, longest: int = _LONGEST_SLUG) -> str:
    """
    Return a few words of a prompt, to be read by people; they identify nothing.

    Words that name a split (:data:`SPLIT_WORDS`) are left out: a folder with a toy train in it would be read
    as a data set of that one image.

    :param longest: characters.
    """
    ascii_text = unicodedata.normalize("NFKD", prompt or "").encode("ascii", "ignore").decode()
    words = _SPLIT_WORD.sub("", re.sub(r"[^a-z0-9]+", "-", ascii_text.lower())[:longest])
    return re.sub("-+", "-", words).strip("-") or "image"


def cut_segment(segment: str) -> str:
    """Return a folder's or a file's name no longer than a file system takes it."""
    if len(segment) <= _LONGEST_NAME:
        return segment
    return f"{segment[: _LONGEST_NAME - 9]}{_ADDED}{_hash(segment)}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
