"""Names are safe on every store, inside the destination, and nobody else's."""

from __future__ import annotations

import re

import pytest

from airflow_gpt_image.batch import plan
from airflow_gpt_image.batch.lock import LOCKS
from airflow_gpt_image.batch.manifest import (
    CONTACT_SHEET,
    CSV,
    FAILURES,
    INVALID,
    JSONL,
    METADATA,
    PARQUET,
    SUMMARY,
    UNSETTLED,
    place_of,
)
from airflow_gpt_image.batch.plan import ITEMS
from airflow_gpt_image.errors import InvalidRequestError
from airflow_gpt_image.ledger.destination import RECORDS
from airflow_gpt_image.ledger.history import History
from airflow_gpt_image.ledger.payer import Payer
from airflow_gpt_image.storage.names import (
    OF_GENERATION,
    OF_REQUEST,
    PARTS,
    Names,
    check_filename,
    is_reserved,
)

GENERATION_ID = "397ce9f2-c04e-4244-ac33-3af19a7cc297"
OF_TASK = "{dag_id}/{run_id}/{task_id}-{map_index}"

HOSTILE = {
    "a slash": "a/b",
    "a way out": "../../etc/passwd",
    "an absolute path": "/etc/passwd",
    "a way out by backslashes": "..\\..\\windows",
    "dots": "..",
    "one dot": ".",
    "a leading dot": ".hidden",
    "a trailing dot": "ends.",
    "nothing": "",
    "a space": " ",
    "NUL": "a\0b",
    "lines": "a\nb\r\nc",
    "a newline at the end": "a\n",
    "a right-to-left mark": "gpj\u202e.exe",
    "half a surrogate pair": "a\ud800b",
    "an emoji": "🚲",
    "what Windows reserves": '<>:"/\\|?*',
    "what a shell takes": "$(rm -rf ~);`id`",
    "what an address takes": "a?b#c%2Fd&e",
    "a template": "{0.__class__} {run_id}",
    "another script": "自転車",
    "10,000 characters": "x" * 10_000,
    "10,000 dots": "." * 10_000,
    "10,000 slashes": "/" * 10_000,
}


def names(template=OF_GENERATION, prompt=None, **parts):
    known = {
        "dag_id": "shop",
        "run_id": "manual__2026-01-01T00:00:00+00:00",
        "task_id": "image",
        "map_index": 0,
    }
    fingerprint, generation_id = parts.pop("fingerprint", "f" * 64), parts.pop("generation_id", GENERATION_ID)
    return Names(template, known | parts).of(fingerprint, generation_id, prompt)


def stem(template=OF_GENERATION, index=0, **parts):
    return names(template, **parts).stem(index)


# Templates


@pytest.mark.parametrize(
    "template",
    [
        OF_GENERATION,
        OF_TASK,
        "{generation_id}",
        "{run_id}/{slug}-{generation_id}",
        "2026/04/{generation_id}.v1",
        "{dag_id}/{run_id}/{task_id}/{map_index}/{index}",
        "{map_index}-{task_id}/{dag_id}/{run_id}",
    ],
)
def test_a_template_that_tells_its_image_from_every_other_is_taken(template):
    assert check_filename(template, across_runs=False) == template


@pytest.mark.parametrize("template", [OF_REQUEST, "{fingerprint}", "{slug}/{fingerprint}_{index}"])
def test_a_template_that_follows_from_the_request_is_taken_across_runs(template):
    assert check_filename(template, across_runs=True) == template


@pytest.mark.parametrize(
    ("template", "rule"),
    [
        ("", "inside the destination"),
        ("/{generation_id}", "inside the destination"),
        ("{generation_id}/", "inside the destination"),
        ("a//{generation_id}", "inside the destination"),
        ("../{generation_id}", "inside the destination"),
        ("a/../{generation_id}", "inside the destination"),
        ("./{generation_id}", "inside the destination"),
        (".{generation_id}", "inside the destination"),
        ("a/.b/{generation_id}", "inside the destination"),
        ("{generation_id} copy", "It may hold letters"),
        ("a\\{generation_id}", "It may hold letters"),
        ("a\0{generation_id}", "It may hold letters"),
        ("{generation_id}\n", "It may hold letters"),
        ("ü{generation_id}", "It may hold letters"),
        ("s3:{generation_id}", "It may hold letters"),
        ("~{generation_id}", "It may hold letters"),
        ("{{generation_id}}", "It may hold letters"),
        ("{generation_id", "is no template"),
        ("{generation_id}}", "is no template"),
        ("{}", "The parts are"),
        ("{0}", "The parts are"),
        ("{api_key}", "The parts are"),
        ("{generation_id.__class__}", "The parts are"),
        ("{generation_id[0]}", "The parts are"),
        ("{generation_id!r}", "The parts are"),
        ("{generation_id:>99999999}", "The parts are"),
        ("{generation_id:{index}}", "The parts are"),
        ("image", "from every other"),
        ("{slug}-{index}", "from every other"),
        ("{fingerprint}", "from every other"),
        ("{run_id}/{task_id}", "from every other"),
        (None, "inside the destination"),
        (5, "inside the destination"),
    ],
)
def test_any_other_template_is_refused_with_its_value_the_rule_and_an_example(template, rule):
    with pytest.raises(InvalidRequestError, match=rule) as raised:
        check_filename(template, across_runs=False)

    lines = str(raised.value).splitlines()
    assert lines[0].startswith(f"filename: {template!r} ")
    assert lines[2] == "Give one such as '{slug}-{generation_id}-{index}'."
    assert max(map(len, lines)) <= 95
    assert [problem.field for problem in raised.value.problems] == ["filename"]


@pytest.mark.parametrize("template", [OF_GENERATION, OF_TASK, "{run_id}/{fingerprint}", "{slug}", "a"])
def test_what_does_not_follow_from_the_request_is_refused_across_runs(template):
    with pytest.raises(InvalidRequestError, match="a name follows from its request"):
        check_filename(template, across_runs=True)


@pytest.mark.parametrize(
    "template",
    [
        "{dag_id}{run_id}{task_id}{map_index}",
        "{dag_id}-{run_id}-{task_id}-{map_index}",
        "{dag_id}/{run_id}/{task_id}{map_index}",
        "{dag_id}/{run_id}/{task_id}1{map_index}",
        "{dag_id}/{run_id}/{map_index}{task_id}",
        "{dag_id}/{run_id}/{slug}-{task_id}/{map_index}",
        "{dag_id}/{run_id}/{task_id}/{map_index}{index}",
    ],
)
def test_parts_that_run_into_each_other_tell_nobody_apart_and_are_refused(template):
    # Tasks "a" and "a1" would share a name: a-1 of 1, a1 of nothing.
    with pytest.raises(InvalidRequestError, match="run into each other"):
        check_filename(template, across_runs=False)


def test_a_template_longer_than_any_store_takes_is_refused_before_it_is_paid_for():
    with pytest.raises(InvalidRequestError, match="too long"):
        check_filename("a/" * 5_000 + "{generation_id}", across_runs=False)


# Names


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("part", [part for part in PARTS if part not in ("index", "slug")])
def test_whatever_a_part_holds_the_name_is_inside_and_takes_no_more_folders(part, value):
    name = stem(f"a/{{{part}}}/b", **{part: value})

    assert re.fullmatch(r"a/[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,99}/b", name)
    assert not name.split("/")[1].endswith(".")


@pytest.mark.parametrize("prompt", HOSTILE.values(), ids=HOSTILE)
def test_whatever_is_drawn_the_slug_is_a_few_plain_words(prompt):
    name = names("{slug}", prompt=prompt).stem(0)

    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,58}[a-z0-9])?", name)


def test_no_two_hostile_values_share_a_name():
    found = [stem("{run_id}", run_id=value) for value in HOSTILE.values()]

    assert len(set(found)) == len(HOSTILE)


def test_a_value_that_imitates_anothers_hash_does_not_get_its_name():
    theirs = "manual__2026-01-01T00:00:00+00:00"
    imitation = stem("{run_id}", run_id=theirs)

    assert stem("{run_id}", run_id=imitation) != imitation


def test_a_plain_value_stays_as_it_is():
    name = stem("{run_id}/{generation_id}-{fingerprint}", run_id="nightly_2026.04")

    assert name == f"nightly_2026.04/{GENERATION_ID}-{'f' * 64}"


def test_a_name_can_be_read_by_people():
    name = names("{run_id}/{slug}", prompt="A résumé, on a red (!) bicycle").stem(0)

    assert re.fullmatch(r"manual__2026-01-01T00_00_00_00_00~[0-9a-f]{8}/a-resume-on-a-red-bicycle", name)


def test_the_same_gives_the_same_name():
    assert stem(OF_TASK, run_id="a/b") == stem(OF_TASK, run_id="a/b")


def test_the_longest_names_stay_below_what_a_file_system_takes():
    longest = {part: "ü" * 10_000 for part in PARTS if part not in ("index", "slug")}
    template = "-".join(f"{{{part}}}" for part in PARTS)

    first, second = (
        names(template, **longest | {"dag_id": dag}).stem(99) for dag in ("ä" * 9_999, "ö" * 9_999)
    )

    assert len(f"{first}.json") <= 255
    assert first != second


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{generation_id}", ["g1", "g1~1", "g1~2"]),
        ("{generation_id}-{index}", ["g1-0", "g1-1", "g1-2"]),
        ("{index}/{generation_id}", ["0/g1", "1/g1", "2/g1"]),
    ],
)
def test_several_images_are_told_apart_by_their_index_whether_the_template_has_it_or_not(template, expected):
    found = names(template, generation_id="g1")

    assert [found.stem(index) for index in range(3)] == expected


def test_several_images_of_one_task_are_not_those_of_another_one():
    # The second image of "image" at 1 is not the first one of "image-1" at 1.
    second = stem(OF_TASK, index=1, task_id="image", map_index=1)
    other = stem(OF_TASK, index=0, task_id="image-1", map_index=1)

    assert second != other


@pytest.mark.parametrize("index", [0, 1, 99])
def test_an_image_and_its_sidecar_are_in_one_folder_whatever_the_template(index):
    for template in (OF_GENERATION, OF_REQUEST, OF_TASK, "{slug}/{generation_id}"):
        assert stem(template, index=index).rpartition("/")[0] == stem(template).rpartition("/")[0]


# Disks that take two names for one, and names that aren't free


CASES = ["shop", "Shop", "SHOP", "sHOP", "Manual_1", "manual_1"]


@pytest.mark.parametrize("part", [part for part in PARTS if part not in ("index", "slug", "map_index")])
def test_no_two_values_that_differ_by_case_share_a_name_on_a_disk_that_does_not_see_it(part):
    found = [stem(f"{{{part}}}", **{part: value}).lower() for value in CASES]

    assert len(set(found)) == len(CASES)


DEVICES = ["con", "CON", "Nul", "aux", "prn", "com1", "LPT9", "con.txt", "nul.a.b"]
OURS = [
    "records",
    "Records",
    "items",
    "locks",
    "map-3",
    "iteration-2",
    "iteration-2-map-3",
    "manifest.jsonl",
    "manifest.csv",
    "plan.jsonl",
    "FAILURES.jsonl",
]


@pytest.mark.parametrize("value", DEVICES + OURS)
def test_a_reserved_name_is_set_apart_and_stays_the_only_one_of_its_kind(value):
    name = stem("{dag_id}/{run_id}/{task_id}-{map_index}", dag_id=value)

    first = name.split("/")[0]
    assert not is_reserved(first, first=True)
    assert first != stem("{dag_id}", dag_id=f"~{value}")
    assert first != stem("{dag_id}", dag_id=f"{value}_")


@pytest.mark.parametrize("value", DEVICES)
def test_a_devices_name_is_set_apart_in_every_folder(value):
    name = stem("a/{task_id}/{generation_id}", task_id=value)

    assert not any(is_reserved(segment, first=False) for segment in name.split("/"))


@pytest.mark.parametrize("value", OURS)
def test_names_of_our_own_files_are_free_in_every_other_folder(value):
    assert stem("a/{task_id}/b", task_id=value.lower()) == f"a/{value.lower()}/b"


@pytest.mark.parametrize(
    "folder", ["records", "Items", "locks", "map-1", "x.jsonl", "con", "a/NUL", "a/com1.x"]
)
def test_a_template_with_a_reserved_name_is_refused_while_the_dag_is_parsed(folder):
    with pytest.raises(InvalidRequestError, match="holds a reserved name"):
        check_filename(f"{folder}/{{generation_id}}", across_runs=False)


def test_all_that_we_write_right_at_a_destination_is_reserved():
    history = History(first_run=True, cleared=False, mapped=True)
    payer = Payer(dag_id="d", run_id="r", task_id="t", map_index=3, loop_index=2, clear_epoch=0, attempt=1)
    ours = [RECORDS, ITEMS, LOCKS, plan.NAME, JSONL, CSV, FAILURES, UNSETTLED, INVALID]
    ours += [PARQUET, METADATA, CONTACT_SHEET, SUMMARY]

    assert all(is_reserved(name, first=True) for name in [*ours, place_of(payer, history).rstrip("/")])


# A name that is taken


@pytest.mark.parametrize("template", [OF_REQUEST, OF_TASK, "{fingerprint}/{slug}-{fingerprint}"])
def test_a_name_that_is_set_apart_is_beside_the_other_and_no_other_generations(template):
    given = names(template)
    other = names(template, generation_id="another")

    apart = given.set_apart(given.stem(0))

    assert apart.rpartition("/")[0] == given.stem(0).rpartition("/")[0]
    assert len({apart, other.set_apart(other.stem(0)), given.stem(0), given.set_apart(given.stem(1))}) == 4
    assert len(f"{apart}.json".rpartition("/")[2].encode()) <= 255


def test_a_name_that_is_set_apart_fits_into_a_folder_however_long_it_is():
    given = names("{slug}-{fingerprint}-{run_id}-{task_id}x{dag_id}", run_id="r" * 500, prompt="p" * 500)

    apart = given.set_apart(given.stem(0))

    assert len(f"{apart}.json".encode()) <= 255
    assert apart != given.stem(0)


@pytest.mark.parametrize("ending", [".png", ".PNG", ".jpg", ".jpeg", ".webp"])
def test_a_template_with_a_pictures_ending_is_refused_for_the_ending_is_added(ending):
    with pytest.raises(InvalidRequestError) as raised:
        check_filename(f"{{generation_id}}{ending}", across_runs=False)

    twice = ending * 2
    assert raised.value.message.splitlines() == [
        f"filename: '{{generation_id}}{ending}' ends in {ending!r}, and images would be called {twice!r}.",
        "The ending follows from the image itself, and is added.",
        "Leave the ending out: '{generation_id}'.",
    ]
