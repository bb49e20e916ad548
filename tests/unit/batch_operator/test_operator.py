"""The batch operator from outside: its arguments, the data sets it takes, what it leaves and returns."""

from __future__ import annotations

import csv
import inspect
import io
import json
import re
from decimal import Decimal

import pyarrow
import pyarrow.parquet
import pytest
import structlog
from airflow.sdk import DAG, Asset, ObjectStoragePath, task
from airflow.serialization.serialized_objects import DagSerialization

from airflow_gpt_image.batch import manifest
from airflow_gpt_image.batch.manifest import read_manifest
from airflow_gpt_image.errors import InvalidRequestError, InvalidRowsError
from airflow_gpt_image.operators.batch import GptImageBatchOperator
from airflow_gpt_image.retry_policy import GptImageRetryPolicy

URL = "https://example.com/room.jpg"
BRACES = "{{ ds }} {% for x in y %} {# none #} {{ undefined.name }} on a sign"


def made(**options):
    given = {"task_id": "posters", "requests": ["a teapot"], "destination": "/data/posters"}
    return GptImageBatchOperator(**given | options)


def asked(api):
    """What the API was asked for, by prompt."""
    requests = [charge["request"] for charge in api.books()["charges"]]
    return sorted(requests, key=lambda request: request.get("prompt", ""))


def prompts(api):
    return [request["prompt"] for request in asked(api)]


def logged(lines):
    return [line["event"] % line.get("positional_args", ()) for line in lines]


# Arguments


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"variants": 0}, "variants=0 must be a whole number from 1 to 100"),
        ({"variants": 101}, "variants=101 must be a whole number from 1 to 100"),
        ({"variants": True}, "variants=True must be"),
        ({"max_in_flight": 0}, "max_in_flight=0 must be a whole number from 1 to 1,000"),
        ({"max_in_flight": 1001}, "max_in_flight=1001 must be"),
        ({"item_retries": 11}, "item_retries=11 must be a whole number from 0 to 10"),
        ({"item_retries": -1}, "item_retries=-1 must be"),
        ({"reuse": "always"}, "reuse='always' must be one of 'run', 'destination', 'never'"),
        ({"on_invalid": "ignore"}, "on_invalid='ignore' must be one of 'fail', 'skip'"),
        ({"on_item_failure": "skip"}, "on_item_failure='skip' must be one of 'continue', 'fail'"),
        ({"on_unknown_submit": "pay"}, "on_unknown_submit='pay' must be one of 'fail', 'resubmit'"),
        ({"max_failures": -1}, "max_failures=-1 must be a count (10), or a share below 1 (0.05)"),
        ({"max_failures": 1.0}, "max_failures=1.0 must be"),
        ({"max_failures": True}, "max_failures=True must be"),
        ({"max_failures": "10%"}, "max_failures='10%' must be"),
        ({"max_credits": -1}, "max_credits=-1 must be an amount of credits, 0 or more"),
        ({"max_credits": "many"}, "max_credits='many' must be"),
        ({"poll_interval": 0}, "poll_interval=0 must be a number of seconds above 0"),
        ({"timeout": float("inf")}, "timeout=inf must be"),
        (
            {"destination": "posters"},
            "'posters' is not a folder images can be stored in. Give an absolute path",
        ),
        ({"destination": ""}, "'' is not a folder"),
    ],
    ids=str,
)
def test_an_argument_that_breaks_a_rule_is_refused_while_the_dag_is_parsed(options, rule):
    with pytest.raises(InvalidRequestError) as refused:
        made(**options)

    assert rule in str(refused.value)


@pytest.mark.parametrize(
    "options",
    [
        {"destination": "{{ params.where }}"},
        {"destination": "s3://store@bucket/{{ ds }}"},
        {"max_failures": 0},
        {"max_failures": 0.0},
        {"max_failures": 0.99},
        {"max_credits": "4.70"},
        {"max_credits": 0},
        {"item_retries": 0},
        {"max_in_flight": 1000, "variants": 100},
        {"requests": "{{ params.file }}"},
    ],
    ids=str,
)
def test_what_keeps_the_rules_or_is_known_later_passes(options):
    assert made(**options).task_id == "posters"


def test_tasks_get_the_packages_retry_policy_unless_they_have_one():
    own = GptImageRetryPolicy()

    assert isinstance(made().retry_policy, GptImageRetryPolicy)
    assert made(retry_policy=own).retry_policy is own


@task
def something():
    return "made by another task"


@pytest.mark.parametrize(
    "requests",
    [
        lambda output: output,
        lambda output: ["a teapot", output],
        lambda output: [{"prompt": output}],
        lambda output: [{"prompt": "a", "image_urls": [output]}],
    ],
    ids=["the list itself", "a prompt in it", "a cell", "in a cell's list"],
)
def test_the_output_of_another_task_makes_a_dependency_wherever_it_stands(requests):
    with DAG("d", schedule=None):
        operator = made(requests=requests(something()))

    assert operator.upstream_task_ids == {"something"}


def test_a_dag_with_it_is_serialised_without_its_prompts():
    with DAG("d", schedule=None) as dag:
        made(requests=[BRACES] * 1234)

    kept = json.dumps(DagSerialization.to_dict(dag))

    assert "1,234 rows" in kept
    assert "on a sign" not in kept


# Data sets

ROWS = [
    {"prompt": "a red teapot", "aspect_ratio": "16:9", "sku": "T-1", "price": "12"},
    {"prompt": BRACES, "resolution": "2k", "sku": "T-2"},
]


def as_csv(rows):
    text = io.StringIO()
    writer = csv.DictWriter(text, ["prompt", "aspect_ratio", "resolution", "sku", "price"])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def as_jsonl(rows):
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def as_parquet(rows):
    data = io.BytesIO()
    names = {name for row in rows for name in row}
    columns = {name: [row.get(name) for row in rows] for name in names}
    pyarrow.parquet.write_table(pyarrow.table(columns), data)
    return data.getvalue()


WRITERS = {"csv": as_csv, "jsonl": as_jsonl, "parquet": as_parquet}


def assert_both_rows_were_made(api, result):
    rows = list(read_manifest(result["manifest"]))
    wide, sign = rows
    assert result["stored"] == 2
    assert {request["prompt"] for request in asked(api)} == {"a red teapot", BRACES}
    assert (wide["request"]["aspect_ratio"], sign["request"]["resolution"]) == ("16:9", "2k")
    assert [row["data"] for row in rows] == [{"sku": "T-1", "price": "12"}, {"sku": "T-2"}]
    assert Decimal(result["charged"]) == Decimal("14.1")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_file_on_disk_is_a_data_set_and_its_path_is_templated(batch, api, tmp_path, kind):
    (tmp_path / f"rows-2026-11-24.{kind}").write_bytes(WRITERS[kind](ROWS))

    result = batch.run(requests=f"{tmp_path}/rows-{{{{ ds }}}}.{kind}")

    assert_both_rows_were_made(api, result)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_file_on_s3_is_a_data_set_and_images_land_there(batch, api, bucket, kind):
    bucket.write(f"in/rows-2026-11-24.{kind}", WRITERS[kind](ROWS))

    result = batch.run(
        requests=f"{bucket.destination}/in/rows-{{{{ ds }}}}.{kind}",
        destination=f"{bucket.destination}/{{{{ ds }}}}",
    )

    assert_both_rows_were_made(api, result)
    assert len([name for name in bucket.names() if name.endswith(".png")]) == 2
    assert "2026-11-24/manifest.jsonl" in bucket.names()


def test_an_object_storage_path_is_a_path_too(batch, api, tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(as_jsonl(ROWS))

    result = batch.run(
        requests=ObjectStoragePath(f"file://{tmp_path}/rows.jsonl"),
        destination=ObjectStoragePath(f"file://{tmp_path}/out"),
    )

    assert_both_rows_were_made(api, result)


def test_a_list_of_mappings_is_a_data_set(batch, api):
    assert_both_rows_were_made(api, batch.run(requests=ROWS))


def test_another_tasks_result_is_a_data_set_and_its_prompts_are_not_rendered(batch, api):
    batch.xcoms["something"] = ROWS

    result = batch.run(requests=something)

    assert_both_rows_were_made(api, result)


def test_other_tasks_results_inside_a_list_are_put_in_wherever_they_stand(batch, api):
    batch.xcoms = {"something": BRACES, "something__1": URL}

    batch.run(requests=lambda: [something(), {"prompt": "warmer", "image_urls": [something()]}])

    assert prompts(api) == ["warmer", BRACES]
    assert asked(api)[0]["image_urls"] == [URL]


def test_the_destination_is_templated_and_so_are_defaults(batch, api, tmp_path):
    result = batch.run(
        requests=["a teapot"], defaults={"resolution": "{{ '2k' }}"}, destination=f"{tmp_path}/{{{{ ds }}}}"
    )

    assert result["manifest"] == f"{tmp_path}/2026-11-24/manifest.jsonl"
    assert asked(api)[0]["resolution"] == "2k"


def test_every_field_of_a_request_can_be_a_column(batch, api, tmp_path):
    header = "prompt,image_urls,aspect_ratio,resolution,nsfw_checker,callback_url\n"
    (tmp_path / "a.csv").write_text(f"{header}warmer,{URL} {URL}?2,3:2,2k,no,{api.url}/hook\n")

    batch.run(requests=str(tmp_path / "a.csv"))

    [charge] = api.books()["charges"]
    assert charge["callback_url"] == f"{api.url}/hook"
    assert charge["request"] == {
        "prompt": "warmer",
        "image_urls": [URL, f"{URL}?2"],
        "aspect_ratio": "3:2",
        "resolution": "2k",
        "nsfw_checker": False,
    }


def test_defaults_are_for_the_rows_that_do_not_say_otherwise(batch, api):
    batch.run(requests=["a", {"prompt": "b", "resolution": "1k"}], defaults={"resolution": "2k"})

    assert [request["resolution"] for request in asked(api)] == ["2k", "1k"]


def test_variants_are_images_of_their_own(batch, api):
    result = batch.run(requests=["a", "b"], variants=2)

    rows = list(read_manifest(result["manifest"]))
    assert prompts(api) == ["a", "a", "b", "b"]
    assert [(row["row"], row["variant"]) for row in rows] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert len({path for row in rows for path in row["paths"]}) == 4


@pytest.mark.parametrize(
    ("requests", "rule"),
    [
        ("a red teapot", "'a red teapot' is a single string, not a data set; give a list of prompts"),
        ([], "is empty; give at least one prompt"),
        (None, "is not a data set"),
        (5, "is not a data set"),
        ("/nowhere/rows.csv", "'/nowhere/rows.csv' can't be read"),
        ("/nowhere/rows.xlsx", "a .csv, .jsonl (.ndjson) or .parquet file"),
    ],
    ids=str,
)
def test_what_is_no_data_set_is_refused_before_anything_is_sent(batch, api, requests, rule):
    with pytest.raises(InvalidRequestError) as refused:
        batch.run(requests=requests)

    assert rule in str(refused.value)
    assert not refused.value.retryable
    assert api.books()["requests"]["submit"] == 0


def test_more_images_than_a_batch_takes_are_refused(batch, api):
    with pytest.raises(InvalidRequestError, match=r"101,000 images; a batch takes 1 to 100,000"):
        batch.run(requests=["a"] * 1010, variants=100)

    assert api.books()["requests"]["submit"] == 0


def test_defaults_that_break_a_rule_are_refused(batch, api):
    with pytest.raises(InvalidRequestError, match=r"defaults: .*'8k' is not a resolution"):
        batch.run(defaults={"resolution": "8k"})

    assert api.books()["requests"]["submit"] == 0


# Rows that can't be requests

BAD = [
    "a teapot",
    {"prompt": "b", "aspect_ratio": "7:5"},
    {"prompt": " ", "resolution": "8k"},
    {"sku": "T-4"},
    "a vase",
]


def test_every_bad_row_is_told_before_the_first_is_paid_for(batch, api, tmp_path):
    with pytest.raises(InvalidRowsError) as refused:
        batch.run(requests=BAD)

    message = str(refused.value)
    assert not refused.value.retryable
    assert "Invalid rows in the data set: 3. Nothing was submitted." in message
    assert "row 2, column aspect_ratio: '7:5' is not an aspect ratio" in message
    assert "row 3, column prompt: ' ' is blank" in message
    assert "row 3, column resolution: '8k' is not a resolution" in message
    assert "row 4" in message
    assert api.books()["requests"]["submit"] == 0
    assert not (tmp_path / "posters" / "plan.jsonl").exists()


@pytest.mark.parametrize("on_invalid", ["fail", "skip"])
def test_all_that_is_wrong_is_written_down(batch, tmp_path, on_invalid):
    try:
        batch.run(requests=BAD, on_invalid=on_invalid)
    except InvalidRowsError:
        assert on_invalid == "fail"

    lines = [json.loads(line) for line in (tmp_path / "posters" / "invalid.jsonl").read_text().splitlines()]
    assert [(line["row"], line["column"]) for line in lines] == [
        (2, "aspect_ratio"),
        (3, "prompt"),
        (3, "resolution"),
        (4, "prompt"),
    ]
    assert "7:5" in lines[0]["value"]
    assert "is not an aspect ratio" in lines[0]["rule"]


def test_bad_rows_can_be_left_out_and_the_others_keep_their_numbers(batch, api):
    result = batch.run(requests=BAD, on_invalid="skip")

    assert (result["rows"], result["images"], result["invalid"], result["stored"]) == (2, 2, 3, 2)
    assert [row["row"] for row in read_manifest(result["manifest"])] == [1, 5]
    assert prompts(api) == ["a teapot", "a vase"]


def test_leaving_out_all_rows_leaves_none_to_pay_for(batch, api):
    with pytest.raises(InvalidRequestError, match="0 valid rows"):
        batch.run(requests=BAD[1:4], on_invalid="skip")

    assert api.books()["requests"]["submit"] == 0


def test_what_was_wrong_before_is_not_told_of_rows_that_are_mended(batch, tmp_path):
    with pytest.raises(InvalidRowsError):
        batch.run(requests=BAD)

    batch.run(requests=["a teapot"])

    assert not (tmp_path / "posters" / "invalid.jsonl").exists()


# Previews


def test_a_dry_run_tells_the_plan_by_tier_pays_nothing_and_leaves_a_note_of_that(batch, api, tmp_path):
    rows = ["a", {"prompt": "b", "resolution": "2k"}, {"prompt": "c", "resolution": "4k"}]

    with structlog.testing.capture_logs() as lines:
        result = batch.run(requests=rows, variants=2, dry_run=True)

    assert result == {
        "dry_run": True,
        "rows": 3,
        "images": 6,
        "invalid": 0,
        "reused": 0,
        "to_pay": 6,
        "failed": 0,
        "unknown": 0,
        "tiers": {
            "1k": {"images": 2, "credits": "9.4", "usd": "0.047"},
            "2k": {"images": 2, "credits": "18.8", "usd": "0.094"},
            "4k": {"images": 2, "credits": "28.2", "usd": "0.141"},
        },
        "credits": "56.4",
        "usd": "0.282",
    }
    [table] = [line for line in logged(lines) if "dry_run" in line]
    assert re.search(r"4k +2 +28.2 +0.141", table)
    assert re.search(r"all +6 +56.4 +0.282", table)
    [note] = [path for path in (tmp_path / "posters").rglob("*") if path.is_file()]
    assert note.name == "attempt-x.json"
    assert api.books()["requests"] == {**api.books()["requests"], "submit": 0, "poll": 0, "credits": 0}


@pytest.mark.parametrize("on_invalid", ["fail", "skip"])
def test_a_dry_run_writes_nothing_about_bad_rows_either(batch, tmp_path, on_invalid):
    try:
        result = batch.run(requests=BAD, dry_run=True, on_invalid=on_invalid)
    except InvalidRowsError:
        assert on_invalid == "fail"
    else:
        assert (result["invalid"], result["to_pay"]) == (3, 2)

    assert not (tmp_path / "posters" / "invalid.jsonl").exists()


def test_a_dry_run_counts_only_what_is_missing(batch, api):
    batch.run(requests=["a", "b"])

    result = batch.run(requests=["c", "b", "a", "b"], dry_run=True)

    assert (result["reused"], result["to_pay"], result["credits"]) == (2, 2, "9.4")
    assert api.books()["submits"] == 2


# What is returned and left


def test_what_is_returned_is_exactly_what_the_docstring_says_and_plain_json(batch):
    text = re.search(r"\(XCom\)::(.*?)\n\n\s*Counts", inspect.getdoc(GptImageBatchOperator), re.DOTALL)[1]

    result = batch.run()

    assert set(result) == set(re.findall(r'"(\w+)"', text))
    assert json.loads(json.dumps(result)) == result


def test_the_result_counts_and_names_what_is_there(batch, tmp_path):
    result = batch.run(requests=["a", {"prompt": "b", "resolution": "4k"}], variants=2)

    assert result["seconds"] < 20
    assert {name: value for name, value in result.items() if name != "seconds"} == {
        "rows": 2,
        "images": 4,
        "invalid": 0,
        "stored": 4,
        "failed": 0,
        "unknown": 0,
        "submitted": 0,
        "not_submitted": 0,
        "reused": 0,
        "credits": "37.6",
        "usd": "0.188",
        "charged": "37.6",
        "refunded": "0",
        "manifest": f"{tmp_path}/posters/manifest.jsonl",
        "manifest_csv": f"{tmp_path}/posters/manifest.csv",
        "failures": None,
        "unsettled": None,
    }


def test_the_manifest_has_what_its_reader_promises(batch, api, tmp_path):
    text = inspect.getdoc(read_manifest).partition(":return:")[2].partition(":raises")[0]

    result = batch.run(requests=[{"prompt": "a", "sku": 5}])

    [row] = read_manifest(tmp_path / "posters")
    assert [row] == list(read_manifest(result["manifest"]))
    assert set(row) | {"stored", "submitted", "not_submitted", "failed", "unknown"} == set(
        re.findall(r"``(\w+)``", text)
    )
    assert row["generation_id"] == api.books()["charges"][0]["task_id"]
    assert (row["status"], row["data"], row["credits"], row["reused"]) == ("stored", {"sku": 5}, "4.7", False)
    assert row["images"][0]["path"] == row["paths"][0]


def test_a_manifest_for_spreadsheets_has_the_data_sets_columns_and_no_formula(batch, tmp_path):
    batch.run(requests=[{"prompt": "=1+1", "sku": "@sum", "price": -5}])

    with (tmp_path / "posters" / "manifest.csv").open(newline="") as file:
        [row] = csv.DictReader(file)
    assert (row["prompt"], row["data.sku"], row["data.price"]) == ("'=1+1", "'@sum", "-5")
    assert tuple(row)[: len(manifest.COLUMNS)] == manifest.COLUMNS


def test_asset_events_say_what_is_new(batch, api):
    api.fault("generation:failed=invalid_request*1")
    asset, other = Asset("posters"), Asset("more")

    result = batch.run(requests=["a", "b"], outlets=[asset, other])

    told = {name: result[name] for name in ("manifest", "stored", "failed", "credits", "usd")}
    assert batch.events[asset].extra == batch.events[other].extra == told
    assert (told["stored"], told["failed"], told["credits"]) == (1, 1, "4.7")


def test_the_log_tells_the_plan_and_the_end_but_neither_prompts_nor_the_key(batch, api):
    with structlog.testing.capture_logs() as lines:
        result = batch.run()

    told = "\n".join(logged(lines))
    assert "3 rows, 3 images: 0 paid for already, 3 to pay for" in told
    assert "3 stored (0 reused), 0 failed, 0 unknown, 0 not submitted." in told
    assert "14.1 credits ($0.0705): 14.1 charged, 0 refunded." in told
    kept = repr(lines) + repr(result) + repr(batch.store.texts)
    assert not re.search("teapot|vase|chair", kept)
    assert api.key not in kept
