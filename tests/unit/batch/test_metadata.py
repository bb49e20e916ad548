"""A batch's destination is a data set of images, as Hugging Face's ImageFolder reads it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from airflow_gpt_image.batch import metadata
from airflow_gpt_image.batch.phases import ItemTable
from airflow_gpt_image.storage.folders import open_folder
from airflow_gpt_image.storage.names import SPLIT_WORDS, slug_of
from tests.batches import failed, manifest_of, plan_of, rows_of, stored

MIXED = [
    {"prompt": "A red teapot", "sku": "T-1", "weight": 2, "new": True, "sizes": [1, "a"], "year": 2026},
    {"prompt": "A blue vase", "sku": 7, "weight": 2.5, "new": False, "sizes": {"a": None}},
    {"prompt": 'A "chair"\n青い壺', "sku": None, "weight": None, "year": 2**62},
    {"prompt": "refused", "sku": "never made"},
]


def write(folder, plan, records, **options):
    entries = list(ItemTable(plan.items))
    for entry, record in zip(entries, records, strict=True):
        entry.record = record
    return manifest_of(folder, plan, entries, **options)


def lines_of(place):
    return [json.loads(line) for line in place.read(metadata.NAME).splitlines()]


def made(plan):
    """All but the last one's images are stored."""
    return [*map(stored, plan.items[:-1]), failed(plan.items[-1])]


def test_each_stored_image_has_a_line_with_its_file_its_prompt_and_its_columns(place, folder):
    plan = plan_of(MIXED)

    result = write(folder, plan, made(plan))

    assert result["metadata"] == f"{place.destination}/metadata.jsonl"
    first, *others = lines_of(place)
    assert first == {
        "file_name": f"{plan.items[0].name}.png",
        "prompt": "A red teapot",
        "row": 1,
        "variant": 1,
        "aspect_ratio": "auto",
        "resolution": "1k",
        "generation_id": "g0",
        "sku": "T-1",
        "weight": 2.0,
        "new": True,
        "sizes": '[1, "a"]',
        "year": 2026,
    }
    assert [line["prompt"] for line in others] == ["A blue vase", 'A "chair"\n青い壺']


def test_a_column_has_one_kind_of_value(disk, on_disk):
    plan = plan_of(MIXED)

    write(on_disk, plan, made(plan))

    lines = lines_of(disk)
    assert [line["sku"] for line in lines] == ["T-1", "7", None]
    assert [line["weight"] for line in lines] == [2.0, 2.5, None]
    assert [line["sizes"] for line in lines] == ['[1, "a"]', '{"a": null}', None]
    assert [line["year"] for line in lines] == [2026, None, 2**62]


def test_numbers_that_no_table_holds_exactly_are_text(disk, on_disk):
    rows = [{"prompt": "a", "large": 2**63, "both": 2**60}, {"prompt": "b", "large": 1, "both": 0.5}]
    plan = plan_of(rows)

    write(on_disk, plan, map(stored, plan.items))

    assert [(line["large"], line["both"]) for line in lines_of(disk)] == [
        ("9223372036854775808", "1152921504606846976"),
        ("1", "0.5"),
    ]


def test_a_column_that_would_mean_a_file_or_a_field_of_ours_has_another_name(disk, on_disk):
    columns = {
        "file_name": "../x.png",
        "label": 5,
        "my_file_names": "y",
        "row": 3,
        "row_": 4,
        "generation_id": 6,
    }
    plan = plan_of([{"prompt": "a", **columns}])

    write(on_disk, plan, map(stored, plan.items))

    [line] = lines_of(disk)
    assert line["file_name"] == f"{plan.items[0].name}.png"
    assert (line["row"], line["generation_id"]) == (1, "g0")
    assert {name: line[f"{name}_"] for name in ("file_name", "label", "my_file_names", "generation_id")} == {
        name: columns[name] for name in ("file_name", "label", "my_file_names", "generation_id")
    }
    assert (line["row__"], line["row_"]) == (3, 4)


def test_several_images_of_a_row_are_several_lines(disk, on_disk):
    plan = plan_of(["a"], variants=2)

    write(on_disk, plan, [stored(plan.items[0], count=2), stored(plan.items[1])])

    assert [(line["row"], line["variant"]) for line in lines_of(disk)] == [(1, 1), (1, 1), (1, 2)]
    assert len({line["file_name"] for line in lines_of(disk)}) == 3


def test_without_a_stored_image_there_is_none_and_an_earlier_one_is_gone(place, folder):
    plan = plan_of(["a"])
    write(folder, plan, map(stored, plan.items))

    result = write(folder, plan, map(failed, plan.items))

    assert result["metadata"] is None
    assert metadata.NAME not in place.names()


def test_map_indexes_that_share_a_destination_have_none_for_it_could_not_name_their_images(disk, on_disk):
    plan = plan_of(["a"])

    result = write(on_disk, plan, map(stored, plan.items), place="map-3/")

    assert result["metadata"] is None
    assert not [name for name in disk.names() if name.endswith(metadata.NAME)]


@pytest.mark.parametrize("word", SPLIT_WORDS)
def test_no_slug_has_a_word_that_makes_a_split(word):
    for prompt in (f"a toy {word} set", f"{word}", f"{word}2 {word}", f"a-{word}"):
        assert word not in slug_of(prompt).split("-")
    # Also where a longer word is cut.
    assert slug_of(f"a {word}s", len(word) + 2) == "a"
    assert slug_of(f"un{word}s") == f"un{word}s"


def draw(folder, plan):
    """The images, and all else that lies at a destination beside them."""
    for item in plan.items:
        file = folder / f"{item.name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (item.row * 20, 0, 0)).save(file)
        file.with_suffix(".json").write_text('{"state": "stored"}')
    (folder / "records" / "0123456789ab").mkdir(parents=True)
    (folder / "records" / "0123456789ab" / "x~1.json").write_text("{}")
    (folder / "plan.jsonl").write_text('{"version": 1}\n')
    (folder / f".{'0' * 32}.part").write_bytes(b"half a file")
    # What an earlier run left: no row of this one.
    Image.new("RGB", (8, 8)).save(folder / "items" / "another-run.png")


@pytest.mark.parametrize("given", ["data_dir", "data_files"])
def test_image_folder_reads_a_destination_as_it_is(load_dataset, tmp_path, given):
    folder = tmp_path / "posters"
    plan = plan_of(MIXED)
    draw(folder, plan)
    write(open_folder(folder), plan, made(plan))

    found = load_dataset(**{given: str(folder if given == "data_dir" else folder / metadata.NAME)})

    assert list(found) == ["train"]
    rows = list(found["train"])
    assert [row["image"].getpixel((0, 0)) for row in rows] == [(20, 0, 0), (40, 0, 0), (60, 0, 0)]
    assert [row["prompt"] for row in rows] == [row["prompt"] for row in MIXED[:3]]
    assert [row["sku"] for row in rows] == ["T-1", "7", None]
    assert [row["weight"] for row in rows] == [2.0, 2.5, None]


def test_a_toy_train_makes_no_split_of_its_own(load_dataset, tmp_path):
    from airflow_gpt_image.batch.filenames import FileNames

    prompts = ["A toy train", "A test tube", "A vase"]
    folder = tmp_path / "posters"
    plan = plan_of(prompts, names=FileNames())
    assert len(rows_of(prompts)) == len(plan.items)
    records = [_named(stored(item), item) for item in plan.items]
    for item in plan.items:
        file = folder / f"{item.file}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16)).save(file)
    write(open_folder(folder), plan, records)

    found = load_dataset(data_dir=str(folder))

    assert [row["prompt"] for row in found["train"]] == prompts
    assert [Path(item.file).name[6:-13] for item in plan.items] == ["a-toy", "a-tube", "a-vase"]


def _named(record, item):
    image = record.images[0].model_copy(update={"name": f"{item.file}.png"})
    return record.model_copy(update={"images": (image,)})
