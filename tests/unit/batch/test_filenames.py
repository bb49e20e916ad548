"""Names for people: unique before anything is paid for, and never another image's."""

from __future__ import annotations

import io
import json

import pytest

from airflow_gpt_image.batch.filenames import FileNames, StoredFiles, short_id
from airflow_gpt_image.batch.plan import Plan
from airflow_gpt_image.errors import InvalidRequestError
from airflow_gpt_image.storage.folders import open_folder
from tests.batches import ME, plan_of, rows_of, stored, submitted


def stems(template, rows, variants=1, **parts):
    names = FileNames(template, parts)
    identities = [f"items/x-{variant}-1" for variant in range(1, variants + 1)]
    return [stem for row in rows_of(rows) for stem in names.stems(row, "f" * 64, identities)]


ROW = {
    "prompt": "A red, enamel teapot!",
    "sku": "T-1",
    "category": "tea/pots",
    "price": 12.5,
    "variant_of": "T",
}


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{sku}", "T-1"),
        ("{sku}-{variant}", "T-1-1"),
        ("{row:05d}-{slug}", "00001-a-red-enamel-teapot"),
        ("{dag_id}/{sku}", "shop/T-1"),
        ("{map_index:03d}-{sku}", "007-T-1"),
        ("{fingerprint}", "f" * 64),
        ("{price}", "12.5"),
    ],
)
def test_a_template_is_filled_with_parts_and_columns(template, name):
    assert stems(template, [ROW], dag_id="shop", map_index=7) == [name]


def test_what_a_column_holds_is_made_safe_and_can_leave_no_folder():
    (name,) = stems("{category}", [ROW])
    (up,) = stems("{sku}", [{"prompt": "x", "sku": "../../etc"}])

    assert name.startswith("tea_pots~")
    assert "/" not in up
    assert not up.startswith(".")


def test_by_default_a_name_says_row_words_and_variant_and_is_short():
    plan = plan_of([{"prompt": "A red, enamel teapot! " * 20}] * 2, variants=2)

    first = plan.items[0]
    assert first.file == f"items/00001-a-red-enamel-teapot-a-red-enamel-teapot-1-{short_id(first.name)}"
    assert len({item.file for item in plan.items}) == 4
    assert max(len(item.file) for item in plan.items) < 80


def test_variants_and_copies_keep_what_they_are_whatever_they_are_called():
    plain, named = plan_of([ROW], variants=3), plan_of([ROW], variants=3)

    assert [item.name for item in plain.items] == [item.name for item in named.items]


@pytest.mark.parametrize(
    "template",
    [
        "",
        5,
        "images",
        "{sku",
        "{sku}/",
        "/{sku}",
        "a//{sku}",
        "../{sku}",
        "{sku}/.hidden/{row}",
        "{sku!r}",
        "{sku:>9}",
        "{row:>9}",
        "{row:x}",
        "{row:3}",
        "{row:3d}",
        "{sku.lower}",
        "{sku[0]}",
        "{}",
        "ä{sku}",
        "{sku} {row}",
        "{a}{b}{c}{d}{e}{f}{g}{h}",
    ],
)
def test_what_is_no_template_of_names_is_refused_with_an_example(template):
    with pytest.raises(InvalidRequestError, match=r"filename: .*\n.*\nGive one such as '\{sku\}-"):
        FileNames(template)


def test_variants_need_names_of_their_own():
    FileNames("{sku}").check_variants(1)
    FileNames("{sku}-{id}").check_variants(2)
    with pytest.raises(InvalidRequestError, match=r"gives the 2 variants of a row one name; add \{variant\}"):
        FileNames("{sku}").check_variants(2)


def test_a_column_called_as_a_part_of_ours_is_refused_where_it_is_used():
    row = {"prompt": "x", "sku": "T", "variant": "red"}

    with pytest.raises(InvalidRequestError, match=r"\{variant\}, which is a part of ours and a column"):
        stems("{sku}-{variant}", [row])
    assert stems("{sku}", [row]) == ["T"]
    assert len(stems(None, [row])) == 1


@pytest.mark.parametrize("rows", [["T-1", "T-1"], ["T-1", "t-1"]])
def test_two_rows_with_one_name_are_refused_case_aside(rows):
    given = [{"prompt": sku + str(n), "sku": sku} for n, sku in enumerate(rows)]

    with pytest.raises(InvalidRequestError, match="Rows 1 and 2 would both have the image"):
        plan_of(given, names=FileNames("{sku}"))


# Where an image lies


@pytest.fixture
def files(disk):
    return StoredFiles(open_folder(disk.destination))


def test_a_free_name_is_taken_and_stays_the_owners(files):
    assert files.stem("items/T-1", "items/a") == "items/T-1"
    assert files.stem("items/T-1", "items/a") == "items/T-1"


def test_another_images_name_is_not_taken(files, disk):
    disk.write("items/T-1.png", b"an earlier run's")

    assert files.stem("items/T-1", "items/a") == f"items/T-1~{short_id('items/a')}"
    assert files.stem("items/t-1", "items/b") == f"items/t-1~{short_id('items/b')}"


def test_a_folder_within_is_looked_at_too(files, disk):
    disk.write("items/pots/T-1.png", b"an earlier run's")

    assert files.stem("items/pots/T-1", "items/a") == f"items/pots/T-1~{short_id('items/a')}"
    assert files.size("items/pots/T-1.png") == len(b"an earlier run's")


def test_what_a_worker_stored_that_died_then_is_replaced_if_the_name_says_whose_it_is(files, disk):
    name = f"items/00001-teapot-1-{short_id('items/a')}"
    disk.write(f"{name}.png", b"without a record")

    assert files.stem(name, "items/a") == name


def test_an_image_that_is_fetched_again_replaces_itself(records_at, on_disk, disk):
    plan = plan_of([{"prompt": "a", "sku": "T"}], names=FileNames("{sku}"))
    (item,) = plan.items
    record = stored(item)
    (image,) = record.images
    record = record.model_copy(update={"images": (image.model_copy(update={"name": "items/T.png"}),)})
    earlier = records_at(on_disk)
    earlier.write(submitted(item))
    earlier.write_stored(record, item.name)
    disk.write("items/T.png", b"cut off")
    records = records_at(on_disk)

    records.load(plan.items)

    assert [found.state for found in records.of(item)] == ["submitted"]
    assert records.files.stem(item.file, item.name) == "items/T"


def test_a_plan_of_before_names_is_read_and_names_images_as_their_records():
    file = io.BytesIO()
    Plan.draft(rows_of(["a"]), variants=1, scope="any", conn_id="c", host="h", into=file)
    head, line = map(json.loads, file.getvalue().splitlines())
    del line["files"]

    (item,) = Plan.read(io.BytesIO(b"\n".join(json.dumps(part).encode() for part in (head, line)))).items

    assert item.file == item.name


def test_records_of_images_are_called_by_what_they_are(records_at, on_disk, disk):
    plan = plan_of([{"prompt": "a", "sku": "T"}], names=FileNames("{sku}"))
    (item,) = plan.items

    assert submitted(item, ME).name == item.name
    assert item.file == "items/T"


def test_a_template_with_a_pictures_ending_is_refused_for_the_ending_is_added():
    with pytest.raises(InvalidRequestError) as refused:
        FileNames("{sku}.png")

    assert refused.value.message.splitlines() == [
        "filename: '{sku}.png' ends in '.png', and images would be called '.png.png'.",
        "The ending follows from the image itself, and is added.",
        "Leave the ending out: '{sku}'.",
    ]


@pytest.mark.parametrize(
    ("template", "name"),
    [("{file}", "teapot"), ("{row}-{file}", "1-teapot"), ("{file}-{row}", "teapot.png-1")],
)
def test_the_ending_of_a_column_at_the_end_of_a_name_is_left_out_for_the_image_has_its_own(template, name):
    assert stems(template, [{"prompt": "x", "file": "teapot.png"}]) == [name]
