"""What a person asks of a data set: names for its images, a preview first, its own columns' names."""

from __future__ import annotations

import json
from pathlib import Path

import pandas
import pytest
from airflow.sdk.exceptions import AirflowSkipException

from airflow_gpt_image.batch.manifest import read_manifest
from airflow_gpt_image.decorators.gpt_image import _GptImageBatchDecoratedOperator
from airflow_gpt_image.errors import InvalidRequestError, InvalidRowsError
from airflow_gpt_image.operators.batch import GptImageBatchOperator
from tests.batches import paid, prompts

URL = "https://example.com/room.jpg"
ROWS = [{"prompt": f"teapot {n}", "sku": f"T-{n}"} for n in range(1, 5)]


def pictures(task):
    folder = task.folder / "items"
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))


def by_prompt(result):
    return {
        line["request"]["prompt"]: Path(line["paths"][0]).name for line in read_manifest(result["manifest"])
    }


# Names


def test_images_are_named_by_the_rows_columns(batch):
    result = batch.run(requests=ROWS, filename="{sku}-{variant}", variants=2)

    assert pictures(batch) == [f"T-{n}-{variant}.png" for n in range(1, 5) for variant in (1, 2)]
    assert by_prompt(result)["teapot 3"] in ("T-3-1.png", "T-3-2.png")
    assert all(Path(path).is_file() for line in read_manifest(result["manifest"]) for path in line["paths"])


def test_by_default_a_name_says_the_row_and_what_is_on_it(batch):
    batch.run(requests=["A red teapot, studio light"])

    (name,) = pictures(batch)
    assert name.startswith("00001-a-red-teapot-studio-light-1-")


def test_folders_of_images_are_found_again(batch, api):
    rows = [{**row, "category": "pots"} for row in ROWS]
    batch.run(requests=rows, filename="{category}/{sku}")

    again = batch.run(requests=rows, filename="{category}/{sku}")

    assert pictures(batch) == [f"pots/T-{n}.png" for n in range(1, 5)]
    assert (again["stored"], api.books()["requests"]["download"]) == (4, 4)


@pytest.mark.parametrize("change", ["name", "order", "rows"])
def test_what_is_stored_stays_where_it_is_and_is_not_paid_for_again(batch, api, change):
    batch.run(requests=ROWS, filename="{row:03d}")
    before = pictures(batch)
    rows = {"name": ROWS, "order": ROWS[::-1], "rows": [{"prompt": "first", "sku": "T-0"}, *ROWS]}[change]

    result = batch.run(requests=rows, filename="{sku}" if change == "name" else "{row:03d}")

    assert set(paid(api).values()) == {1}
    assert set(before) <= set(pictures(batch))
    assert {f"teapot {n}": f"00{n}.png" for n in range(1, 5)}.items() <= by_prompt(result).items()
    assert result["stored"] == len(rows)


def test_a_new_row_where_another_stood_takes_a_name_of_its_own(batch, api):
    first = batch.run(requests=ROWS[:1], filename="{row}")
    (path,) = (line["paths"][0] for line in read_manifest(first["manifest"]))
    before = Path(path).read_bytes()

    result = batch.run(requests=[{"prompt": "another", "sku": "A"}, ROWS[0]], filename="{row}")

    assert Path(path).read_bytes() == before
    assert by_prompt(result)["teapot 1"] == "1.png"
    assert by_prompt(result)["another"].startswith("1~")
    assert len(pictures(batch)) == 2


def test_another_runs_images_are_never_replaced(batch, api):
    batch.run(requests=ROWS, filename="{sku}")
    before = {path: (batch.folder / "items" / path).read_bytes() for path in pictures(batch)}
    batch.new_run()

    result = batch.run(requests=ROWS, filename="{sku}")

    assert result["stored"] == 4
    assert {path: (batch.folder / "items" / path).read_bytes() for path in before} == before
    assert len(pictures(batch)) == 8


def test_an_image_that_is_gone_comes_back_under_its_name(batch, api):
    batch.run(requests=ROWS, filename="{sku}")
    (batch.folder / "items" / "T-2.png").unlink()

    batch.run(requests=ROWS, filename="{sku}")

    assert pictures(batch) == ["T-1.png", "T-2.png", "T-3.png", "T-4.png"]
    assert api.books()["submits"] == 4


@pytest.mark.parametrize(
    ("rows", "filename", "words"),
    [
        ([ROWS[0], {**ROWS[1], "sku": "t-1"}], "{sku}", "Rows 1 and 2 would both have the image 't-1'"),
        (ROWS, "{colour}", "row 1, column colour: It is empty; fill the cell. The filename needs it."),
        (
            [ROWS[0], {"prompt": "x"}],
            "{sku}",
            "row 2, column sku: It is empty; fill the cell. The filename needs it.",
        ),
        ([ROWS[0], {"prompt": "x", "sku": "nan"}], "{sku}", "row 2, column sku: 'nan' stands for nothing"),
    ],
)
def test_names_that_are_not_unique_or_not_there_are_told_before_anything_is_paid_for(
    batch, api, rows, filename, words
):
    with pytest.raises(InvalidRequestError) as refused:
        batch.run(requests=rows, filename=filename)

    assert words in str(refused.value)
    assert api.books()["requests"]["submit"] == 0


def test_a_filename_is_templated(batch):
    batch.run(requests=ROWS[:1], filename="{{ ds }}/{sku}")

    assert pictures(batch) == ["2026-11-24/T-1.png"]


def test_images_stored_after_a_deferral_have_their_names(deferring):
    result = deferring.run(requests=ROWS, filename="{sku}")

    assert pictures(deferring) == [f"T-{n}.png" for n in range(1, 5)]
    assert result["stored"] == 4


# Previews


@pytest.mark.parametrize("preview", [{"limit": 2}, {"limit": "{{ 2 }}"}, {"sample": 2}, {"sample": "2"}])
def test_a_preview_is_paid_once_and_the_full_run_pays_for_the_rest(batch, api, preview):
    few = batch.run(requests=ROWS, **preview)
    made = set(prompts(api))
    batch.clear()

    everything = batch.run(requests=ROWS)

    assert (few["rows"], few["stored"], len(made)) == (2, 2, 2)
    assert (everything["stored"], everything["reused"]) == (4, 2)
    assert set(paid(api).values()) == {1}


def test_a_preview_of_another_run_is_found_at_the_destination(batch, api):
    batch.run(requests=ROWS, limit=2, reuse="destination")
    batch.new_run()

    result = batch.run(requests=ROWS, reuse="destination", limit="None")

    assert (result["reused"], api.books()["submits"]) == (2, 4)


def test_rows_that_are_the_same_are_found_again_after_a_preview(batch, api):
    batch.run(requests=["a", "a", "b", "a"], limit=2)

    batch.run(requests=["a", "a", "b", "a"])

    assert paid(api) == {"a": 3, "b": 1}


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "many"])
@pytest.mark.parametrize("name", ["limit", "sample"])
def test_a_preview_of_nothing_is_refused_while_parsing(name, value):
    with pytest.raises(InvalidRequestError, match=f"{name}=.* must be a whole number of rows, 1 or more"):
        GptImageBatchOperator(task_id="t", requests=ROWS, destination="/data", **{name: value})


def test_limit_and_sample_are_one_or_the_other():
    with pytest.raises(InvalidRequestError, match="can't be given beside limit"):
        GptImageBatchOperator(task_id="t", requests=ROWS, destination="/data", limit=1, sample=1)


# Columns that are called otherwise


def test_a_catalogue_needs_no_task_of_its_own(batch, api, tmp_path):
    (tmp_path / "shop.csv").write_text(f"sku;title;background;photo\nT-1;A teapot;moss;{URL}, {URL}?2\n")

    result = batch.run(
        requests=str(tmp_path / "shop.csv"),
        columns={"image_urls": "photo"},
        prompt_template="{title}, studio photo on {background}",
        filename="{sku}",
    )

    (charge,) = api.books()["charges"]
    assert charge["request"]["prompt"] == "A teapot, studio photo on moss"
    assert charge["request"]["image_urls"] == [URL, f"{URL}?2"]
    assert pictures(batch) == ["T-1.png"]
    (line,) = read_manifest(result["manifest"])
    assert line["data"] == {"sku": "T-1", "title": "A teapot", "background": "moss"}


def test_images_may_be_named_by_columns_that_are_fields_of_another_name(batch):
    rows = [{"Title": "teapot", "imageUrls": [URL]}, {"Title": "vase", "imageUrls": [URL]}]

    batch.run(requests=rows, columns={"prompt": "Title"}, filename="{Title}")

    assert pictures(batch) == ["teapot.png", "vase.png"]


def test_rows_that_failed_are_run_again_with_the_same_arguments(batch, api, tmp_path):
    given = {"columns": {"image_urls": "photo"}, "prompt_template": "{title} on white", "filename": "{sku}"}
    api.fault("submit:invalid_request*1;match=vase")
    rows = [{"title": "teapot", "sku": 1, "photo": URL}, {"title": "vase", "sku": 2, "photo": URL}]
    first = batch.run(requests=rows, **given)
    batch.new_run()

    again = batch.run(requests=first["failures"], destination=str(tmp_path / "again"), **given)

    assert (first["failed"], again["stored"]) == (1, 1)
    assert paid(api) == {"teapot on white": 1, "vase on white": 1}


def test_rows_that_gave_no_field_and_failed_can_be_run_again(batch, api, tmp_path):
    (tmp_path / "x.csv").write_text("sku,prompt\n7,\n")
    api.fault("submit:invalid_request*1")
    first = batch.run(requests=str(tmp_path / "x.csv"), defaults={"prompt": "a teapot"})
    batch.new_run()

    again = batch.run(
        requests=first["failures"], defaults={"prompt": "a teapot"}, destination=str(tmp_path / "again")
    )

    assert (first["failed"], again["stored"]) == (1, 1)


def test_what_was_paid_for_with_the_default_prompt_alone_is_refused_now(batch, api, tmp_path):
    (tmp_path / "x.jsonl").write_text('{"sku": 7, "photo_links": ["x"]}\n')

    with pytest.raises(InvalidRequestError):
        batch.run(requests=str(tmp_path / "x.jsonl"), defaults={"prompt": "a teapot"})

    assert api.books()["requests"]["submit"] == 0


# Tables, and nothing at all


def test_a_table_in_memory_is_a_data_set_in_the_dag_file_and_from_another_task(batch, api):
    frame = pandas.DataFrame({"prompt": ["{{ ds }}", "b"], "sku": [1, None]})

    result = batch.run(requests=frame)

    assert prompts(api) == ["b", "{{ ds }}"]
    assert [line["data"] for line in read_manifest(result["manifest"])] == [{"sku": 1.0}, {}]
    operator = GptImageBatchOperator(task_id="t", requests=frame, destination="/data")
    assert str(operator.requests) == "DataFrame: 2 rows"


@pytest.mark.parametrize("empty", [[], pandas.DataFrame({"prompt": []})], ids=["list", "table"])
def test_an_empty_data_set_fails_or_skips_the_task(batch, api, empty):
    with pytest.raises(InvalidRequestError, match="is empty"):
        batch.run(requests=empty)
    with pytest.raises(AirflowSkipException, match="is empty"):
        batch.run(requests=empty, on_empty="skip")

    assert api.books()["requests"]["submit"] == 0


def test_rows_of_which_none_is_good_are_not_an_empty_data_set(batch):
    with pytest.raises(InvalidRowsError):
        batch.run(requests=[""], on_empty="skip")


# While the DAG is parsed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"requests": "/x/shop.xlsx"}, "Save the sheet as CSV"),
        ({"requests": Path("/x/prompts.txt")}, "doesn't say by its name"),
        ({"requests": "https://a.example/x.csv"}, "Download it in a task before"),
        ({"columns": {"photo": "image_urls"}}, "'photo' is no field"),
        ({"prompt_template": "{title.upper}"}, "prompt_template:"),
        ({"filename": "{sku}", "variants": 2}, "add {variant}"),
        ({"on_empty": "ignore"}, "must be one of 'fail', 'skip'"),
    ],
)
def test_what_is_wrong_whatever_runs_is_told_while_parsing(arguments, words):
    with pytest.raises(InvalidRequestError) as refused:
        GptImageBatchOperator(**{"task_id": "t", "requests": ROWS, "destination": "/data", **arguments})

    assert words in str(refused.value)


def test_the_decorator_takes_the_same_arguments():
    given = {
        "columns": {"image_urls": "photo"},
        "prompt_template": "{title}",
        "filename": "{sku}",
        "limit": 20,
        "on_empty": "skip",
    }

    operator = _GptImageBatchDecoratedOperator(
        task_id="t", python_callable=lambda: ROWS, destination="/data", **given
    )

    assert {name: getattr(operator, name) for name in given} == given
    assert {"filename", "limit", "sample"} <= set(operator.template_fields)


def test_what_was_taken_for_what_is_in_the_log_and_in_the_rows_that_are_wrong(batch, tmp_path):
    (tmp_path / "x.csv").write_text("Prompt;aspectRatio\na teapot;7:5\n")

    with pytest.raises(InvalidRowsError) as refused:
        batch.run(requests=str(tmp_path / "x.csv"))

    assert "column aspect_ratio: '7:5' is not an aspect ratio" in str(refused.value)
    assert "Its column is 'aspectRatio'." in str(refused.value)
    (line,) = (batch.folder / "invalid.jsonl").read_text().splitlines()
    assert json.loads(line)["line"] == 2
