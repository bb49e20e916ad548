"""The contact sheet shows a batch's images to people: whole, from anywhere, and whatever the rows hold."""

from __future__ import annotations

import re
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from PIL import Image

from airflow_gpt_image.batch.contact_sheet import IMAGES_A_PAGE, About, ContactSheet, dollars
from airflow_gpt_image.batch.phases import ItemTable
from airflow_gpt_image.errors import DestinationError, InvalidRequestError
from airflow_gpt_image.storage.folders import open_folder
from tests.batches import (
    ANOTHER,
    DEFAULT_PRICES,
    ME,
    NOW,
    MeddledFolder,
    failed,
    intent,
    late,
    manifest_of,
    plan_of,
    stored,
)
from tests.browser import browse, needs_browser

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onload='alert(1)",
    "</title></style><script>alert(1)</script>",
    "&lt;b&gt; & &amp;",
    "\x00\x1b[31m\x7f\u202egnp.exe\u2066",
    "javascript:alert(1)",
    "{policy} {0} %s",
    "𝕌 青い壺 مرحبا \U0001f3fa",
]


class Page(HTMLParser):
    """What a browser would make of a page: its elements, and its text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.words = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self):
        return " ".join(self.words)


def page_of(place, name="contact_sheet.html"):
    return Page(place.read(name).decode())


def write(folder, plan, records=(), **options):
    entries = list(ItemTable(plan.items))
    for entry, record in zip(entries, records, strict=False):
        entry.record = record
    return manifest_of(folder, plan, entries, **options)


def test_a_stored_image_is_shown_and_linked_to_with_its_column_as_caption_and_its_prompt_as_text(
    place, folder
):
    plan = plan_of([{"prompt": "A red teapot", "sku": "T-1"}])

    result = write(folder, plan, [stored(plan.items[0])])

    page = page_of(place)
    file = f"./{plan.items[0].name}.png"
    assert result["contact_sheet"] == f"{place.destination}/contact_sheet.html"
    assert page.all("img") == [
        {
            "src": file,
            "alt": "A red teapot",
            "width": "1024",
            "height": "1024",
            "loading": "lazy",
            "decoding": "async",
        }
    ]
    assert [link["href"] for link in page.all("a")] == ["manifest.csv", file]
    assert "T-1" in page.words
    assert "row 1" in page.words


def test_without_columns_the_prompt_is_the_caption_and_not_said_twice(disk, on_disk):
    plan = plan_of(["A red teapot"])

    write(on_disk, plan, [stored(plan.items[0])])

    page = page_of(disk)
    assert [image["alt"] for image in page.all("img")] == [""]
    assert "A red teapot" in page.words


@pytest.mark.parametrize(
    ("columns", "caption"),
    [
        ({"colour": "red", "SKU": "T-1"}, "T-1"),
        ({"colour": "red", "size": "xl"}, "red"),
        ({"colour": "", "size": "xl"}, "A red teapot"),
        ({"colour": "  "}, "A red teapot"),
        ({"sizes": ["s", "xl"], "new": True}, '["s", "xl"]'),
        ({"new": True}, "true"),
        ({"text": "x" * 1_000_000}, f"{'x' * 79}…"),
    ],
)
def test_the_caption_is_the_column_that_names_the_row_and_the_prompt_where_it_is_empty(
    disk, on_disk, columns, caption
):
    plan = plan_of([{"prompt": "A red teapot", **columns}])

    write(on_disk, plan, [stored(plan.items[0])])

    page = page_of(disk)
    assert page.words[page.words.index("row 1") - 1] == caption
    assert [image["alt"] for image in page.all("img")] == [
        "" if caption == "A red teapot" else "A red teapot"
    ]
    assert len(disk.read("contact_sheet.html")) < 10_000


def test_several_images_of_a_row_each_have_a_tile(disk, on_disk):
    plan = plan_of(["a"])

    write(on_disk, plan, [stored(plan.items[0], count=3)])

    page = page_of(disk)
    assert len({image["src"] for image in page.all("img")}) == 3
    assert [word for word in page.words if word.startswith("row")] == [
        f"row 1 · {number} of 3" for number in (1, 2, 3)
    ]


def test_what_has_no_image_keeps_its_place_with_word_reason_and_money(disk, on_disk):
    plan = plan_of(["stored", "by another", "failed", "late", "unknown", "never begun"])
    items = plan.items
    refusal = InvalidRequestError("The prompt was refused.", code="invalid_request")
    refused = intent(items[2]).not_accepted(refusal, NOW)

    write(
        on_disk,
        plan,
        [stored(items[0]), stored(items[1], ANOTHER), refused, late(items[3]), intent(items[4])],
    )

    page = page_of(disk)
    words = [word.strip() for word in page.words]
    assert [word for word in words if word in ("Failed", "Not stored yet", "Unknown", "Not sent")][-4:] == [
        "Failed",
        "Not stored yet",
        "Unknown",
        "Not sent",
    ]
    assert "invalid_request: The prompt was refused." in words
    assert "upstream_error: The service is down." in words
    assert [word for word in words if word.startswith("row ")][-6:] == [
        "row 1",
        "row 2 · reused",
        "row 3 · not charged",
        "row 4 · paid: $0.0235",
        "row 5 · at stake: $0.0235",
        "row 6 · nothing paid",
    ]


def test_a_generation_that_failed_is_refunded(disk, on_disk):
    plan = plan_of(["a"])

    write(on_disk, plan, [failed(plan.items[0])])

    assert "row 1 · refunded" in page_of(disk).words


def test_counts_dollars_source_and_errors_stand_on_top(disk, on_disk):
    plan = plan_of(["a", "b", "c"])
    records = [stored(plan.items[0]), failed(plan.items[1], code="upstream_error"), failed(plan.items[2])]

    write(on_disk, plan, records, source="s3://my_aws@shop/exports/x.csv?Signature=secret")

    page = page_of(disk)
    assert "posters" in page.text
    assert "3 rows of s3://my_aws@shop/exports/x.csv?*** · written 2026-04-05 10:11 UTC" in page.words
    for label, value in {"Stored": "1", "Failed": "2", "Unknown": "0", "Paid": "$0.00"}.items():
        assert page.words[page.words.index(label) + 1] == value
    assert "upstream_error" in page.words
    assert "row 2: The prompt was refused." in page.words
    assert [link["href"] for link in page.all("a")][:2] == ["manifest.csv", "failures.jsonl"]


@pytest.mark.parametrize(
    ("amount", "told"),
    [
        ("0", "$0.00"),
        ("0.0235", "$0.0235"),
        ("0.99999", "$1.0000"),
        ("1", "$1.00"),
        ("1234.2245", "$1,234.22"),
    ],
)
def test_a_sum_has_two_decimals_from_a_dollar_on_and_else_four(amount, told):
    assert dollars(Decimal(amount)) == told


@pytest.mark.parametrize("text", HOSTILE)
def test_whatever_a_row_holds_is_text_and_nothing_else(disk, on_disk, text):
    harmless = plan_of([{"prompt": "a", "sku": "b"}, {"prompt": "a", "sku": "c"}])
    plan = plan_of([{"prompt": f"x {text}", "sku": text}, {"prompt": f"y {text}", "sku": text}])
    reason = failed(plan.items[1]).model_copy(
        update={"failure": failed(plan.items[1]).failure.model_copy(update={"message": text, "code": text})}
    )
    write(on_disk, harmless, [stored(harmless.items[0]), failed(harmless.items[1])])
    expected = [tag for tag, _ in page_of(disk).elements]

    write(on_disk, plan, [stored(plan.items[0]), reason], source=text)

    page = page_of(disk)
    assert [tag for tag, _ in page.elements] == expected
    assert not [name for _, given in page.elements for name in given if name.startswith("on")]
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", page.text)


def test_a_name_of_a_file_is_a_path_beside_the_page_whatever_it_is():
    pages = {}
    about = About({"rows": 1, "usd": "0", "errors": [], **dict.fromkeys(COUNTS, 0)}, DEFAULT_PRICES, NOW)
    sheet = ContactSheet(pages.__setitem__, about, ME, 1)
    names = [
        "javascript:alert(1)",
        "//evil.example/x",
        "https://evil.example",
        'a"><b>.png',
        "a?b#c%.png",
        "ü",
    ]

    for name in names:
        sheet.add(line_of(name), [name])
    sheet.close()

    page = Page(pages["contact_sheet.html"].decode())
    for name, image in zip(names, page.all("img"), strict=True):
        whole = urljoin("https://bucket.example/batch/contact_sheet.html", image["src"])
        assert urlsplit(whole).scheme == "https"
        assert urlsplit(whole).netloc == "bucket.example", image["src"]
        assert urlsplit(whole).path.startswith("/batch/")
        assert not urlsplit(whole).query + urlsplit(whole).fragment
        assert unquote(image["src"]) == f"./{name}"


COUNTS = ("stored", "failed", "unknown", "submitted", "not_submitted", "reused")


def line_of(name):
    """A line of a manifest about an image of this name."""
    return {
        "row": 1,
        "variant": 1,
        "status": "stored",
        "request": {"prompt": name},
        "data": {},
        "images": [{"width": 64, "height": 64}],
        "reused": False,
    }


@pytest.mark.parametrize(("where", "up"), [("", "./"), ("map-3/", "../"), ("iteration-2-map-3/", "../")])
def test_links_lead_to_the_images_from_wherever_the_page_lies(disk, on_disk, where, up):
    plan = plan_of(["a"])
    disk.write(f"{plan.items[0].name}.png", b"the image")

    result = write(on_disk, plan, [stored(plan.items[0])], place=where)

    [image] = page_of(disk, f"{where}contact_sheet.html").all("img")
    assert image["src"] == f"{up}{plan.items[0].name}.png"
    assert (Path(result["contact_sheet"]).parent / image["src"]).read_bytes() == b"the image"


def test_pages_are_of_500_images_and_lead_to_each_other(place, folder):
    plan = plan_of([f"poster {number}" for number in range(2 * IMAGES_A_PAGE + 1)])

    write(folder, plan, map(stored, plan.items))

    names = ["contact_sheet.html", "contact_sheet_2.html", "contact_sheet_3.html"]
    pages = [page_of(place, name) for name in names]
    assert [len(page.all("img")) for page in pages] == [500, 500, 1]
    for number, page in enumerate(pages):
        links = page.all("a")[:3]
        assert [link["href"] for link in links] == names
        assert ["aria-current" in link for link in links] == [number == i for i in range(3)]
    assert "1,001–1,001" in pages[2].words


def test_of_many_pages_the_first_the_last_and_the_nearest_are_linked_to():
    pages = {}
    about = About({"rows": 1, "usd": "0", "errors": [], **dict.fromkeys(COUNTS, 0)}, DEFAULT_PRICES, NOW)
    sheet = ContactSheet(pages.__setitem__, about, ME, 20 * IMAGES_A_PAGE)

    for _ in range(10 * IMAGES_A_PAGE):
        sheet.add(line_of("a.png"), ["a.png"])

    [nav, *_] = re.findall("<nav.*?</nav>", pages["contact_sheet_10.html"].decode())
    assert re.findall(r"_(\d+)\.html", nav) == ["8", "9", "10", "11", "12", "20"]
    assert nav.count("…") == 2


def test_pages_of_an_earlier_try_with_more_images_are_gone(place, folder):
    more = plan_of([f"poster {number}" for number in range(2 * IMAGES_A_PAGE + 1)])
    write(folder, more, map(stored, more.items))
    fewer = plan_of(["a"])

    write(folder, fewer, map(stored, fewer.items))

    assert [name for name in place.names() if name.startswith("contact_sheet")] == ["contact_sheet.html"]


def test_pages_that_could_not_be_taken_away_are_taken_away_by_the_next_try(disk, on_disk):
    more = plan_of([f"poster {number}" for number in range(3 * IMAGES_A_PAGE + 1)])
    write(on_disk, more, map(stored, more.items))
    fewer, removed = plan_of(["a"]), []

    def break_off(act, name, *_):
        if act == "remove" and name.startswith("contact_sheet"):
            removed.append(name)
            if len(removed) > 1:
                raise DestinationError("The disk is away.")

    with pytest.raises(DestinationError):
        write(MeddledFolder(on_disk, break_off), fewer, map(stored, fewer.items))

    write(on_disk, fewer, map(stored, fewer.items))

    assert [name for name in disk.names() if name.startswith("contact_sheet")] == ["contact_sheet.html"]


def test_a_page_asks_for_nothing_but_images_beside_it(disk, on_disk):
    plan = plan_of(["a"])

    write(on_disk, plan, [stored(plan.items[0])])

    text = disk.read("contact_sheet.html").decode()
    page = Page(text)
    [policy] = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert policy.startswith("default-src 'none'; img-src 'self' file:; style-src 'sha256-")
    assert not {"script", "link", "iframe", "object", "form", "base"} & {tag for tag, _ in page.elements}
    assert not [given for _, given in page.elements if "style" in given]
    assert "http://" not in text
    assert "https://" not in text
    assert [html["lang"] for html in page.all("html")] == ["en"]
    assert [tag for tag, _ in page.elements if re.fullmatch(r"h\d", tag)] == ["h1", "h2"]


@needs_browser
@pytest.mark.parametrize("where", ["", "map-3/"])
def test_a_browser_opens_it_from_a_disk_with_every_image_and_no_script(tmp_path, where):
    rows = [{"prompt": text, "sku": text} for text in HOSTILE]
    plan = plan_of(rows)
    for item in plan.items:
        file = tmp_path / f"{item.name}.png"
        file.parent.mkdir(exist_ok=True)
        Image.new("RGB", (32, 32), "teal").save(file)
    write(open_folder(tmp_path), plan, map(stored, plan.items), place=where)

    with browse(f"file://{tmp_path}/{where}contact_sheet.html") as page:
        page.until("document.readyState == 'complete' && [...document.images].every(i => i.complete)")
        assert page.run("[...document.images].map(i => i.naturalWidth)") == [32] * len(rows)
        assert page.run("getComputedStyle(document.querySelector('ul')).display") == "grid"
        # Laid out on a grid of squares, beside each other.
        assert page.run("document.images[0].clientWidth == document.images[0].clientHeight")
        assert page.run("document.documentElement.scrollWidth <= innerWidth")
        assert page.run("document.scripts.length") == 0
