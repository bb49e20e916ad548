"""What a cell says, or why nobody can know."""

from __future__ import annotations

import datetime
import decimal
import uuid

import numpy
import pandas
import pytest

from airflow_gpt_image.errors import InvalidRequestError

URL = "https://a.example/1.png"
OTHER = "https://b.example/2.png?b,c"

ERROR_VALUES = [
    "#REF!",
    "#N/A",
    "#NAME?",
    "#VALUE!",
    "#DIV/0!",
    "#NULL!",
    "#NUM!",
    "#SPILL!",
    "#CALC!",
    "#GETTING_DATA",
    "#ERROR!",
    "#BEZUG!",
    "#NV",
    "#WERT!",
    "#ZAHL!",
    "#ÜBERLAUF!",
    "#NOM?",
    "#VALEUR!",
    "#¡VALOR!",
    "#¿NOMBRE?",
    "#N/D",
    "#ССЫЛКА!",
    "#Н/Д",
    "########",
    "Err:502",
    "Fehler:508",
    " #REF! ",
    "#ERROR",
    "#N/B",
    "#Saknas!",
    "#YOK",
    "#HIÁNYZIK",
    "#BLOCKED!",
    "Loading...",
    "Loading…",
]
NOTHING = [
    "nan",
    "NaN",
    "None",
    "none",
    "NULL",
    "null",
    "N/A",
    "n/a",
    "NA",
    "<NA>",
    "NaT",
    "undefined",
    "-",
    "—",
    "(null)",
    "[object Object]",
    "k.A.",
    "------",
    "=====",
    "...",
    "***",
    "[]",
    "{}",
    "?",
    "\u200b",
    "\u3164",
    "\u2800",
    "\u00a0\u200b",
]


@pytest.mark.parametrize("word", [*ERROR_VALUES, *NOTHING])
@pytest.mark.parametrize("name", ["x.csv", "x.jsonl"])
def test_what_stands_for_nothing_is_a_bad_prompt(read, name, word):
    content = f'prompt,sku\n"{word}",7' if name == "x.csv" else f'{{"prompt": "{word}", "sku": 7}}'

    rows, (bad,) = read(name, content, defaults={"prompt": "a teapot"})

    assert (rows, bad.column) == ([], "prompt")
    assert "stands for nothing" in bad.rule or "error value" in bad.rule


@pytest.mark.parametrize("field", ["image_urls", "aspect_ratio", "resolution", "callback_url"])
@pytest.mark.parametrize("word", ["#N/A", "nan", "NULL"])
def test_so_it_is_in_every_field(read, field, word):
    _, (bad,) = read("x.csv", f"prompt,{field}\na teapot,{word}")

    assert (bad.column, bad.value) == (field, repr(word))


@pytest.mark.parametrize("word", ["#REF!", "nan"])
def test_a_default_cannot_be_nothing_either(read, word):
    assert "defaults: prompt" in read.refusal("x.csv", "resolution\n2k", defaults={"prompt": word})


@pytest.mark.parametrize(
    "prompt",
    [
        "A #REF! on a wall",
        "nano",
        "a null-modem",
        "#sunset over the sea",
        "No 5",
        "-1 degree",
        "null and void",
        "NASA",
        "🫖",
        "∞",
        "7",
        "茶",
        "= a teapot",
        "=) smiling",
        "#sunset",
        "A teapot -- red ...",
        "3 rows of teapots",
    ],
)
def test_a_prompt_that_only_contains_such_a_word_is_a_prompt(read, prompt):
    (row,) = read.rows("x.csv", f'prompt\n"{prompt}"')

    assert row.request.prompt == prompt


@pytest.mark.parametrize(
    "formula",
    ["=A1", "=$B$2&C3", '=CONCATENATE(A1;" pot")', '="a teapot"', "=-A1", "='Sheet 1'!A1", "=IF(A1,B1)"],
)
def test_a_formula_is_no_prompt(read, formula):
    _, (bad,) = read.requests([{"prompt": formula}], defaults={"prompt": "a teapot"})

    assert "is a spreadsheet's formula; give what it comes to." in bad.rule


@pytest.mark.parametrize(
    "footer", ["(3 rows affected)", "(1 row)", "1,204 rows selected.", "2 rows returned"]
)
def test_what_a_database_writes_below_its_rows_is_no_prompt(read, footer):
    _, (bad,) = read("x.csv", f'prompt\n"{footer}"')

    assert "writes below its rows; remove the line" in bad.rule


def test_letters_that_were_lost_before_are_told(read):
    _, (bad,) = read("x.csv", "prompt\na caf\ufffd table")

    assert "contains U+FFFD in place of a letter that was lost" in bad.rule


@pytest.mark.parametrize("word", ["#REF!", "nan", "None", "-", "=A1"])
def test_in_a_column_that_is_not_ours_it_is_what_it_is(read, word):
    (row,) = read.rows("x.csv", f"prompt,sku\na teapot,{word}")

    assert row.metadata == {"sku": word}


# Several addresses in a cell


@pytest.mark.parametrize(
    "between", [",", ", ", ";", " ; ", "|", " | ", " ", "\n", "\r\n", "\t", ",\n", ";;", "，", "、", "；"]
)
@pytest.mark.parametrize(
    "second", [OTHER, "s3://conn@bucket/2.png", "gs://bucket/2.png", "HTTPS://b.example/2.png"]
)
def test_addresses_are_split_where_a_scheme_follows(read, between, second):
    rows = read.rows("x.csv", f'image_urls\n"{URL}{between}{second}"')

    assert [row.given["image_urls"] for row in rows] == [[URL, second]]


@pytest.mark.parametrize("end", [",", ";", " ", "|", ", "])
def test_a_separator_at_the_end_separates_nothing(read, end):
    (row,) = read.rows("x.csv", f'image_urls\n"{end}{URL}{end}"')

    assert row.given["image_urls"] == [URL]


@pytest.mark.parametrize("url", [OTHER, "https://a.example/w_10,h_10/1.png", "https://a.example/a;b/1.png"])
def test_a_comma_of_the_addresses_own_stays(read, url):
    (row,) = read.rows("x.csv", f'image_urls\n"{url}"')

    assert row.given["image_urls"] == [url]


@pytest.mark.parametrize(
    "cell",
    [
        f"{URL},2.png",
        f"{URL};b/2.png",
        f"{URL}, 2.png",
        f"{URL}|2.png",
        f"{URL} 2.png",
        f"2.png,{URL}",
        "1.png,2.png",
    ],
)
def test_addresses_of_which_one_has_no_scheme_are_a_bad_cell(read, cell):
    rows, (bad,) = read("x.csv", f'prompt,image_urls\nx,"{cell}"')

    assert (rows, bad.column) == ([], "image_urls")


@pytest.mark.parametrize("between", [",", ", ", "|", " "])
def test_an_item_of_a_list_that_is_several_addresses_is_not_taken_for_one(read, between):
    for value in ([f"{URL}{between}{OTHER}"], [URL, f"{URL}{between}{OTHER}"]):
        _, (bad,) = read.requests([{"prompt": "x", "image_urls": value}])
        assert "is several addresses; make each an item of the list" in bad.rule


# As exports of shops, Postgres, Python and HTML write several.
@pytest.mark.parametrize(
    "between", ["~", "^", "<br>", "\\n", "+", "&", "#", "::", "", "-", ".", " and ", "%2C", "||~", "','"]
)
def test_what_separates_addresses_in_another_way_is_no_part_of_one(read, between):
    for rows, bad in (
        read("x.csv", f'prompt,image_urls\nx,"{URL}{between}{OTHER}"'),
        read.requests([{"prompt": "x", "image_urls": [f"{URL}{between}{OTHER}"]}]),
    ):
        assert (rows, [cell.column for cell in bad]) == ([], ["image_urls"])


@pytest.mark.parametrize(
    "cell",
    [
        f"['{URL}', '{OTHER}']",
        f"{{{URL},{OTHER}}}",
        f"1.png ({URL}),2.png ({OTHER})",
        f"[x]({URL})",
        f"<{URL}>",
        f"![]({URL})",
        f'=IMAGE(""{URL}"")',
        f"'{URL}'",
        f'""{URL}""',
        f"1: {URL}",
        f"({URL})",
        "data:image/png,x",
    ],
)
def test_what_other_tools_write_around_addresses_is_a_bad_cell(read, cell):
    rows, (bad,) = read("x.csv", f'prompt,image_urls\nx,"{cell}"')

    assert (rows, bad.column) == ([], "image_urls")


@pytest.mark.parametrize(
    "url",
    [
        f"https://web.example/2020/{URL}",
        f"https://cdn.example/?url={URL}&w=3",
        f"https://cdn.example/fetch/w_10,h_10/{URL}",
        f"https://cdn.example/filters:watermark({URL})/x",
    ],
)
def test_an_address_may_hold_another_one_of_its_own(read, url):
    (row,) = read.rows("x.csv", f'image_urls\n"{url}"')

    assert row.request.image_urls == (url,)


def test_a_table_may_have_addresses_as_text_too(read):
    frame = pandas.DataFrame({"prompt": ["x"], "image_urls": [f"{URL} {OTHER}"], "nsfw_checker": ["no"]})

    ((row,), bad) = read.requests(frame)

    assert (bad, row.request.image_urls, row.request.nsfw_checker) == ([], (URL, OTHER), False)


# Columns that aren't ours


def test_what_is_no_number_is_nothing_and_what_has_a_text_is_that(read):
    given = uuid.UUID("397ce9f2-c04e-4244-ac33-3af19a7cc297")
    cells = {
        "id": given,
        "took": datetime.timedelta(minutes=3),
        "weight": float("nan"),
        "price": decimal.Decimal("NaN"),
        "far": float("inf"),
        "at": pandas.NaT,
        "gone": pandas.NA,
        "count": numpy.int64(7),
        "share": numpy.float32(0.5),
        "flag": numpy.bool_(True),
        "vector": numpy.array([1, 2]),
        "day": numpy.datetime64("2026-01-01"),
        "moment": numpy.datetime64("2026-01-01T00:00:00.5", "ns"),
        "lasted": numpy.timedelta64(1_500_000_000, "ns"),
        "days": numpy.array(["2026-01-01", "NaT"], "datetime64[ns]"),
    }

    ((row,), bad) = read.requests([{"prompt": "x", **cells}])

    assert bad == []
    assert row.metadata == {
        "id": str(given),
        "took": "0:03:00",
        "count": 7,
        "share": 0.5,
        "flag": True,
        "vector": [1, 2],
        "day": "2026-01-01",
        "moment": "2026-01-01T00:00:00.500000",
        "lasted": "0:00:01.500000",
        "days": ["2026-01-01T00:00:00", None],
    }


def test_bytes_are_told_once_for_the_column_with_the_rows_that_have_them(read):
    rows = [{"prompt": f"{n}", "thumbnail": b"\x89PNG" if n % 2 else None} for n in range(1000)]

    good, (bad,) = read.requests(rows)

    assert len(good) == 500
    assert (bad.row, bad.column, bad.more) == (2, "thumbnail", 499)
    assert "is bytes, which can't be written down as JSON; leave the column out" in str(bad)
    assert "So it is in 499 more rows." in str(bad)


def test_a_row_that_has_more_wrong_than_its_bytes_says_all_of_it(read):
    rows = [{"prompt": "x", "raw": b"x"}, {"prompt": "x", "raw": b"x", "aspect_ratio": "7:5"}]

    _, bad = read.requests(rows)

    assert {(cell.row, cell.column) for cell in bad} == {(1, "raw"), (2, "raw"), (2, "aspect_ratio")}


# Indexes of pandas


@pytest.mark.parametrize(
    ("frame", "data"),
    [
        (pandas.DataFrame({"prompt": ["x"], "sku": ["T"]}).set_index("sku"), {"sku": "T"}),
        (pandas.DataFrame({"prompt": ["x"], "sku": ["T"]}).set_index("sku", drop=False), {"sku": "T"}),
        (pandas.DataFrame({"prompt": ["x"]}, index=["T"]), {"index": "T"}),
        (pandas.DataFrame({"prompt": ["w", "x"]})[1:], {}),
    ],
    ids=["named", "a column, too", "without a name", "numbers"],
)
def test_an_index_is_a_column_but_for_the_numbers_that_pandas_adds(read, frame, data):
    ((row,), bad) = read.requests(frame)

    assert (bad, row.metadata) == ([], data)


def test_an_index_that_is_called_as_another_column_is_refused(read):
    frame = pandas.DataFrame({"prompt": ["x"], "sku": ["T"]}, index=pandas.Index(["U"], name="sku"))

    with pytest.raises(InvalidRequestError, match="index 'sku' is called as one of its columns"):
        read.requests(frame)


def test_a_table_that_is_not_in_memory_is_told_how_to_get_it_there(read):
    class DataFrame:
        columns = ("prompt",)

        def collect(self): ...

        def toPandas(self): ...  # noqa: N802  # as Spark has it

    with pytest.raises(InvalidRequestError, match=r"such as DataFrame\.toPandas\(\)"):
        read.requests(DataFrame())
