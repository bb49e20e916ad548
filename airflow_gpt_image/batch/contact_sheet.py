"""``contact_sheet.html``: a batch's images for people, beside its manifest.

500 images a page, each page a file of its own that needs no other one but the images: it opens from a disk or
a bucket, without script. Links are relative, so a folder can be moved or copied with them. Prompts, columns
and messages are anybody's texts: they are text wherever they stand, and an image's link is a path and nothing
else. The page's own policy lets a browser load images and nothing more.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from html import escape
from typing import Any, Final
from urllib.parse import quote

from airflow_gpt_image.api.pricing import Prices
from airflow_gpt_image.api.text import redact_queries
from airflow_gpt_image.batch import contact_sheet_style
from airflow_gpt_image.batch.columns import value_of
from airflow_gpt_image.ledger.payer import Payer

IMAGES_A_PAGE: Final = 500

_LONGEST_CAPTION: Final = 80
_LONGEST_ALT: Final = 300
_LONGEST_REASON: Final = 200
# Of the numbers of other pages that a page links to, besides the first and the last one.
_NEIGHBOURS: Final = 2
_MOST_LINKS: Final = 12

# What is no character, or turns the text around it: shown as what it is.
_UNSEEN: Final = dict.fromkeys(
    [*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xFFFE, 0xFFFF], "�"
) | {ord(space): " " for space in "\t\n\r"}

_STATUSES: Final = {
    "failed": ("f", "✕", "Failed", "The image could not be made."),
    "unknown": ("u", "?", "Unknown", "Its submit may or may not have been accepted."),
    "submitted": ("w", "…", "Not stored yet", "It is paid for, and its image has not arrived."),
    "not_submitted": ("n", "–", "Not sent", "The batch ended before it was submitted."),
}
"""How a tile without an image looks: its class, sign and word, and its reason where no error tells one."""


def name_of(page: int) -> str:
    """Return what a page's file is called, from 1 on."""
    return "contact_sheet.html" if page == 1 else f"contact_sheet_{page}.html"


@dataclass(frozen=True)
class About:
    """
    What the pages say of the batch as a whole.

    :param result: the task's: counts, ``usd`` and ``errors``.
    :param now: when they are written.
    :param source: where the rows came from, if that is an address.
    """

    result: Mapping[str, Any]
    prices: Prices
    now: datetime
    source: str = ""


class ContactSheet:
    """
    Write the pages, each as soon as it is full.

    :param publish: puts a page with this name beside the manifest, and returns its address.
    :param images: how many lines will be added.
    :param caption: the column that tiles are captioned by; None, and where it is empty: the prompt.
    :param up: from the manifest's folder to the one that images' names are relative to: "" or ``../``.
    """

    def __init__(
        self,
        publish: Callable[[str, bytes], str],
        about: About,
        payer: Payer,
        images: int,
        *,
        caption: str | None = None,
        up: str = "",
    ) -> None:
        self._publish, self._about, self._payer = publish, about, payer
        self._images, self._caption, self._up = images, caption, up
        self._tiles: list[str] = []
        self._added = 0
        self.pages = 0
        self.address: str | None = None

    def add(self, line: Mapping[str, Any], files: Sequence[str]) -> None:
        """
        Add an image's tile; several, if the API gave several images.

        :param line: of the manifest.
        :param files: of its images, relative to the destination.
        """
        self._added += 1
        prompt = line["request"]["prompt"] or ""
        given = None if self._caption is None else line["data"].get(self._caption)
        value = (value_of(given, "text") or "").strip()
        caption = _shown(value or prompt, _LONGEST_CAPTION)
        # What the caption says isn't read out twice.
        alt = "" if value in ("", prompt) else _shown(prompt, _LONGEST_ALT)
        sub = f"row {line['row']:,}"
        if line["variant"] > 1:
            sub += f" · variant {line['variant']}"
        if line["status"] == "stored" and files:
            sub += " · reused" if line["reused"] else ""
            for number, (file, image) in enumerate(zip(files, line["images"], strict=True), 1):
                counted = f"{sub} · {number} of {len(files)}" if len(files) > 1 else sub
                self._tiles.append(self._image_tile(file, image, caption or "No prompt", alt, counted))
        else:
            self._tiles.append(self._empty_tile(line, caption, sub))
        if self._added % IMAGES_A_PAGE == 0:
            self._flush()

    def close(self) -> None:
        """Write the last page."""
        if self._tiles:
            self._flush()

    def _flush(self) -> None:
        self.pages += 1
        page = "".join([*self._head(), *self._tiles, "</ul>\n</main>\n</body>\n</html>\n"])
        address = self._publish(name_of(self.pages), page.encode())
        self.address = self.address or address
        self._tiles.clear()

    # --- tiles

    def _image_tile(self, file: str, image: Mapping[str, Any], caption: str, alt: str, sub: str) -> str:
        # With its "./" a path can't begin as another host's address does.
        link = f"{self._up or './'}{_relative(file)}"
        size = f' width="{image["width"]}" height="{image["height"]}"' if image["width"] else ""
        return (
            f'<li><a href="{link}"><img src="{link}" alt="{alt}"{size} loading="lazy" decoding="async">'
            f'<b dir="auto">{caption}</b></a><span>{sub}</span></li>\n'
        )

    def _empty_tile(self, line: Mapping[str, Any], caption: str, sub: str) -> str:
        kind, sign, word, reason = _STATUSES.get(line["status"], _STATUSES["unknown"])
        told = [text for text in (line["error_code"], line["error_message"]) if text]
        reason = _shown(": ".join(told) if told else reason, _LONGEST_REASON)
        return (
            f'<li><div class="{kind}"><h3><i aria-hidden="true">{sign}</i> {word}</h3>'
            f'<p dir="auto">{reason}</p></div>'
            f'<b dir="auto">{caption}</b><span>{sub} · {self._money(line)}</span></li>\n'
        )

    def _money(self, line: Mapping[str, Any]) -> str:
        if line["status"] == "failed":
            return "not charged" if line["generation_id"] is None else "refunded"
        price = f"${self._about.prices.usd(Decimal(line['credits'])):.4f}"
        return {"unknown": f"at stake: {price}", "submitted": f"paid: {price}"}.get(
            line["status"], "nothing paid"
        )

    # --- what stands above them

    def _head(self) -> Iterable[str]:
        about, payer, result = self._about, self._payer, self._about.result
        first = (self.pages - 1) * IMAGES_A_PAGE + 1
        task, run = _shown(payer.task_id, 250), _shown(payer.run_id, 250)
        rows = f"{result['rows']:,} row{'' if result['rows'] == 1 else 's'}"
        source = f" of {_shown(redact_queries(about.source), 500)}" if about.source else ""
        yield contact_sheet_style.HEAD.format(
            title=f"{task} · {run} · {first:,}–{self._added:,}", policy=_policy()
        )
        yield f'<header>\n<div>\n<h1 dir="auto">{task} <span>· {run}</span></h1>\n'
        yield f"<p>{rows}{source} · written {about.now:%Y-%m-%d %H:%M} UTC</p>\n</div>\n<dl>"
        yield from (f"<div><dt>{label}</dt><dd>{value}</dd></div>" for label, value in _figures(result))
        yield f"</dl>\n</header>\n<main>\n<div>{self._navigation()}{_files(result)}</div>\n"
        if self.pages == 1 and result["errors"]:
            yield from _errors(result["errors"])
        yield f"<h2>Images {first:,} to {self._added:,}</h2>\n<ul>\n"

    def _navigation(self) -> str:
        last = -(-self._images // IMAGES_A_PAGE)
        if last <= 1:
            return ""
        near = range(self.pages - _NEIGHBOURS, self.pages + _NEIGHBOURS + 1)
        links, skipped = [], False
        for page in range(1, last + 1):
            if last > _MOST_LINKS and page not in (1, last) and page not in near:
                skipped = True
                continue
            links += ["<span>…</span>"] if skipped else []
            skipped = False
            begin, end = (page - 1) * IMAGES_A_PAGE + 1, min(page * IMAGES_A_PAGE, self._images)
            here = ' aria-current="page"' if page == self.pages else ""
            links.append(f'<a href="{name_of(page)}"{here}>{begin:,}–{end:,}</a>')
        return f'<nav aria-label="Pages">{"".join(links)}</nav>'


def dollars(amount: Decimal) -> str:
    """Return a sum for people: with two decimals from a dollar on, else with four."""
    return f"${amount:,.2f}" if amount >= 1 or not amount else f"${amount:.4f}"


def _figures(result: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    always = {"Stored": "stored", "Failed": "failed", "Unknown": "unknown"}
    others = {"Not stored yet": "submitted", "Not sent": "not_submitted", "Reused": "reused"}
    for label, name in {**always, **others}.items():
        if result[name] or label in always:
            yield label, f"{result[name]:,}"
    yield "Paid", dollars(Decimal(result["usd"]))


def _files(result: Mapping[str, Any]) -> str:
    names = ["manifest.csv"]
    names += ["failures.jsonl"] if result["failed"] else []
    names += ["unsettled.jsonl"] if result["unknown"] or result["submitted"] else []
    links = "".join(f'<a href="{name}">{name}</a>' for name in names)
    return f'<nav aria-label="Files">{links}</nav>'


def _errors(errors: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    yield "<details><summary>Errors</summary>\n<table>\n"
    yield '<tr><th scope="col">Error</th><th scope="col">Images</th><th scope="col">Example</th></tr>\n'
    for error in errors:
        row = f"row {error['row']:,}: " if error["row"] is not None else ""
        example = f"{row}{_shown(error['message'] or '', 300)}"
        yield f"<tr><td>{_shown(error['code'], 100)}</td><td>{error['count']:,}</td><td>{example}</td></tr>\n"
    yield "</table></details>\n"


def _shown(text: str, most: int) -> str:
    """Return a foreign text as a page shows it: cut, printable, and nothing but text."""
    if len(text) > most:
        text = f"{text[: most - 1]}…"
    if not text.isprintable():
        text = text.translate(_UNSEEN)
    return escape(text)


def _relative(file: str) -> str:
    """Return a file's name as a relative address, in which no part can be a scheme, a host or a query."""
    return escape(quote(file.encode("utf-8", "replace"), safe="/~"))


def _policy() -> str:
    digest = hashlib.sha256(contact_sheet_style.CSS.encode()).digest()
    style = base64.b64encode(digest).decode()
    loads = f"default-src 'none'; img-src 'self' file:; style-src 'sha256-{style}'"
    return f"{loads}; base-uri 'none'; form-action 'none'"
