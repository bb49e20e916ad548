"""A destination is read by its text, and acts alike on a disk and on a store."""

from __future__ import annotations

import errno
import gc
import io
import os
import re
import resource
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from airflow.sdk import ObjectStoragePath

from airflow_gpt_image.errors import DestinationError, InvalidRequestError
from airflow_gpt_image.storage.destinations import check_destination
from airflow_gpt_image.storage.folders import open_file, open_folder


@pytest.mark.parametrize(
    ("destination", "folder"),
    [
        ("/data/images", "/data/images"),
        ("/data/images/", "/data/images"),
        ("/data/two words/ü", "/data/two words/ü"),
        ("/data/50%20off", "/data/50%20off"),
        ("file:///data/images", "/data/images"),
        ("file://localhost/data/images", "/data/images"),
        ("file:///data/two%20words", "/data/two words"),
        ("local:///data/images", "/data/images"),
        ("/data/..images/a..b", "/data/..images/a..b"),
        ("/", "/"),
    ],
)
def test_a_destination_is_an_absolute_path_or_a_file_address(destination, folder):
    path = check_destination(destination)

    assert Path(path) == Path(folder)


@pytest.mark.parametrize(
    "destination",
    [
        "",
        "  ",
        "images",
        "./images",
        "../images",
        "~/images",
        "file:images",
        "file://",
        "file://images",
        "file://fileserver/images",
        "local://images/posters",
        "local:///data/%2e%2e/etc",
        "s3://",
        "s3:///images",
        "s3://bucket/images?",
        "s3://bucket/images#1",
        "s3://bucket/../images",
        "s3://bucket/two words",
        "s3://bucket\\images",
        "ftp://example.com/images",
        "https://example.com/images",
        "://images",
        "/data/\0images",
        "file:///data/%00images",
        "/data/images/..",
        "/data/images/../../etc",
        "/../data",
        "file:///data/images/../../etc",
        "file:///data/%2e%2e/etc",
        "file:///data/..%2fetc",
        "s3://bucket/images/..",
    ],
)
def test_any_other_destination_is_refused_with_its_value_the_rule_and_an_example(destination):
    with pytest.raises(InvalidRequestError) as raised:
        check_destination(destination)

    message = str(raised.value)
    assert f"destination: {destination!r}" in message
    assert "absolute path such as /data/images" in message
    assert [problem.field for problem in raised.value.problems] == ["destination"]


@pytest.mark.parametrize("destination", ["file:///data/images?day=1", "file:///data/images#1"])
def test_a_file_address_with_a_query_or_fragment_does_not_silently_mean_another_folder(destination):
    with pytest.raises(InvalidRequestError):
        check_destination(destination)


@pytest.mark.parametrize(
    ("destination", "address"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/images/", "s3://bucket/images"),
        ("s3://my_conn@bucket/images", "s3://my_conn@bucket/images"),
        ("gs://bucket/2026-11-24", "gs://bucket/2026-11-24"),
        ("abfs://conn@container/images", "abfs://conn@container/images"),
        (ObjectStoragePath("s3://bucket/images", conn_id="my_conn"), "s3://my_conn@bucket/images"),
        (ObjectStoragePath("file:///data/images"), "/data/images"),
    ],
)
def test_a_folder_on_a_store_is_a_destination(destination, address):
    assert check_destination(destination) == address


def test_a_store_that_airflow_does_not_know_says_what_to_install():
    with pytest.raises(InvalidRequestError, match="knows no store 'gs'"):
        open_folder("gs://bucket/images").write("a.txt", b"x")


def test_a_password_in_a_destination_is_refused_and_not_repeated():
    with pytest.raises(InvalidRequestError, match="contains a password") as raised:
        check_destination("s3://AKID:hunter2@bucket/images")

    assert "hunter2" not in str(raised.value)


def test_a_path_object_is_a_destination_too():
    path = check_destination(Path("/data/images"))

    assert path == "/data/images"


@pytest.mark.parametrize("destination", [5, None, ["/data/images"], b"/data/images"])
def test_a_destination_that_is_no_text_is_refused_like_any_other(destination):
    with pytest.raises(InvalidRequestError, match="destination"):
        check_destination(destination)


# What a folder does, wherever it is


def test_what_is_written_is_there_and_its_address_leads_to_it(place):
    folder = open_folder(place.destination)

    address = folder.write("a/b.txt", b"hello")

    assert place.names() == ["a/b.txt"]
    assert ObjectStoragePath(address).read_bytes() == b"hello"
    assert (folder.read("a/b.txt"), folder.size("a/b.txt")) == (b"hello", 5)


def test_what_is_not_there_is_none(place):
    folder = open_folder(place.destination)

    assert (folder.read("a.txt"), folder.size("a.txt")) == (None, None)


def test_what_another_hand_wrote_or_removed_is_seen_at_once(place):
    folder = open_folder(place.destination)
    folder.write("a.txt", b"hello")
    folder.size("a.txt")

    place.delete("a.txt")
    place.write("b.txt", b"hello you")

    assert (folder.size("a.txt"), folder.size("b.txt")) == (None, 9)


def test_the_files_of_a_sub_folder_are_told_with_their_sizes_and_what_lies_deeper_is_not(place):
    folder = open_folder(place.destination)
    for name in ("items/a.json", "items/deep/b.json", "items-2/c.json", "d.json"):
        place.write(name, b"x" * 7)
    place.write("items/.hidden.json", b"")

    assert folder.sizes("items") == {"items/a.json": 7, "items/.hidden.json": 0}
    assert folder.sizes("items/deep") == {"items/deep/b.json": 7}


def test_a_draft_is_not_among_the_files_of_a_sub_folder(place):
    folder = open_folder(place.destination)
    place.write("items/.0123.part", b"what a killed worker left behind")

    with folder.draft("items/a.json") as draft:
        draft.write(b"half of it")
        draft.flush()
        told = folder.sizes("items")

    assert told == {}


def test_a_sub_folder_that_is_not_there_or_is_a_file_has_no_files(place):
    folder = open_folder(place.destination)
    before = folder.sizes("items")
    place.write("items", b"a file")

    assert (before, folder.sizes("items")) == ({}, {})


def test_what_another_hand_wrote_or_removed_a_moment_ago_is_told(place):
    folder = open_folder(place.destination)
    place.write("items/a.json", b"hello")
    before = folder.sizes("items")

    place.delete("items/a.json")
    place.write("items/b.json", b"hello you")

    assert before == {"items/a.json": 5}
    assert folder.sizes("items") == {"items/b.json": 9}


def test_more_files_than_a_page_of_s3_holds_are_all_told(place):
    names = [f"items/{number:04}.json" for number in range(1_010)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda name: place.write(name, b"{}"), names))

    assert open_folder(place.destination).sizes("items") == dict.fromkeys(names, 2)


def test_a_sub_folder_that_a_console_made_is_no_file(bucket):
    bucket.write("items/", b"")
    bucket.write("items/a.json", b"hello")

    assert open_folder(bucket.destination).sizes("items") == {"items/a.json": 5}


def test_a_link_that_leads_nowhere_is_not_told(disk):
    disk.write("items/a.json", b"hello")
    Path(disk.destination, "items", "b.json").symlink_to("nowhere")

    assert open_folder(disk.destination).sizes("items") == {"items/a.json": 5}


@pytest.mark.parametrize("what", ["a pipe", "a device"])
def test_what_is_no_file_is_an_error_and_not_waited_for(disk, what):
    folder = open_folder(disk.destination)
    folder.write("records/b.json", b"{}")
    path = Path(disk.destination) / "records" / "a.json"
    os.mkfifo(path) if what == "a pipe" else path.symlink_to("/dev/zero")

    with pytest.raises(DestinationError, match="not a regular file"):
        folder.read("records/a.json")
    with pytest.raises(DestinationError, match="not a regular file"):
        folder.copy("records/a.json", io.BytesIO())

    assert folder.sizes("records") == {"records/b.json": 2}
    assert folder.write("records/a.json", b"{}")
    assert folder.read("records/a.json") == b"{}"


def test_a_pipe_or_a_device_is_no_data_set(tmp_path):
    os.mkfifo(tmp_path / "rows.csv")

    for path in (str(tmp_path / "rows.csv"), "/dev/zero"):
        with pytest.raises(InvalidRequestError) as caught:
            open_file(path)
        assert len(caught.value.message.splitlines()) == 3


def test_what_is_removed_is_gone_and_removing_it_again_is_no_error(place):
    folder = open_folder(place.destination)
    folder.write("items/a.json", b"hello")
    folder.write("items/b.json", b"hello")

    folder.remove("items/a.json")
    folder.remove("items/a.json")
    folder.remove("nowhere/at/all.json")
    folder.remove("items/b.json/c.json")

    assert place.names() == ["items/b.json"]
    assert folder.sizes("items") == {"items/b.json": 5}


def test_many_threads_write_read_list_and_remove_at_once(place):
    folder = open_folder(place.destination)

    def busy(thread):
        for number in range(10):
            name, data = f"items/{thread}-{number}.json", b"x" * (thread + number)
            folder.write(name, data)
            assert (folder.read(name), folder.size(name)) == (data, len(data))
            if number % 5 == 0:
                assert folder.sizes("items")[name] == len(data)
                folder.remove(name)
                assert folder.size(name) is None

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(busy, range(16)))

    assert len(folder.sizes("items")) == 16 * 8


LENGTHS = [10, 5 * 1024 * 1024, 12 * 1024 * 1024]


def put_new(folder, data):
    with folder.draft("a.png") as draft:
        draft.write(data)
        return folder.publish_new(draft, "a.png")


@pytest.mark.parametrize("length", LENGTHS)
def test_a_new_file_replaces_nothing(place, length):
    folder = open_folder(place.destination)

    assert put_new(folder, b"x" * length)
    assert not put_new(folder, b"y" * length)

    assert place.read("a.png") == b"x" * length
    assert place.names() == ["a.png"]


def test_on_a_disk_without_hard_links_a_new_file_replaces_nothing_either(disk, monkeypatch):
    def no_link(source, target):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_link)
    folder = open_folder(disk.destination)

    assert [put_new(folder, b"x"), put_new(folder, b"y")] == [True, False]
    assert (disk.read("a.png"), disk.names()) == (b"x", ["a.png"])


@pytest.mark.parametrize("length", LENGTHS)
def test_of_several_who_put_a_new_file_at_the_same_moment_one_does(place, length):
    folder, gate = open_folder(place.destination), threading.Barrier(4)

    def put(letter):
        with folder.draft("a.png") as draft:
            draft.write(letter * length)
            gate.wait(60)
            return folder.publish_new(draft, "a.png")

    letters = [b"a", b"b", b"c", b"d"]
    with ThreadPoolExecutor(4) as threads:
        put_there = list(threads.map(put, letters))

    assert put_there.count(True) == 1
    assert place.read("a.png") == letters[put_there.index(True)] * length
    assert place.names() == ["a.png"]
    assert not place.unfinished_uploads()


@pytest.mark.parametrize("length", LENGTHS)
def test_a_draft_is_seen_by_nobody_until_it_is_published_and_replaces_what_was_there(place, length):
    folder = open_folder(place.destination)
    folder.write("a.png", b"the old one")

    with folder.draft("a.png") as draft:
        draft.write(b"x" * length)
        before = place.read("a.png")
        folder.publish(draft, "a.png")

    assert before == b"the old one"
    assert place.read("a.png") == b"x" * length
    assert place.names() == ["a.png"]


def test_a_draft_that_is_given_up_leaves_nothing(place):
    folder = open_folder(place.destination)

    with folder.draft("a.png") as draft:
        draft.write(b"half of it")

    assert place.names() == []


class _Broken:
    """A draft whose disk fails in the middle of the upload."""

    def __init__(self, file, length):
        self._file, self._left = file, length

    def __getattr__(self, name):
        return getattr(self._file, name)

    def read(self, size):
        self._left -= size
        if self._left < 0:
            raise OSError("the disk is broken")
        return self._file.read(size)


@pytest.mark.parametrize(("umask", "permissions"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_a_small_file_may_be_read_by_whom_the_umask_allows(disk, umask, permissions):
    before = os.umask(umask)
    try:
        address = open_folder(disk.destination).write("records/r.json", b"{}")
    finally:
        os.umask(before)

    assert stat.S_IMODE(Path(address).stat().st_mode) == permissions


@pytest.fixture
def small_disk():
    """A disk on which no file can be larger than 1,000 bytes: of more it takes the beginning."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_small_file_that_the_disk_takes_in_part_leaves_the_old_one_and_no_part(disk, small_disk):
    folder = open_folder(disk.destination)
    folder.write("records/r.json", b"old")

    with pytest.raises(DestinationError, match=re.escape("records/r.json")):
        folder.write("records/r.json", b"x" * 1_001)

    assert folder.read("records/r.json") == b"old"
    assert [path.name for path in Path(disk.destination, "records").iterdir()] == ["r.json"]


def test_a_large_draft_that_the_disk_does_not_take_says_whose_it_is_and_leaves_nothing(place, small_disk):
    folder = open_folder(place.destination)

    with (
        pytest.raises(DestinationError, match=r"a\.png could not be read or written"),
        folder.draft("a.png") as draft,
    ):
        draft.write(b"x" * 5 * 1024 * 1024)

    assert place.names() == []


def test_a_small_file_that_cannot_take_its_place_leaves_no_part(disk):
    folder = open_folder(disk.destination)
    folder.write("records/r.json/deeper", b"old")

    with pytest.raises(DestinationError):
        folder.write("records/r.json", b"new")

    assert [path.name for path in Path(disk.destination, "records").iterdir()] == ["r.json"]


def test_an_upload_that_breaks_off_leaves_the_old_file_and_no_part(bucket):
    folder = open_folder(bucket.destination)
    folder.write("a.png", b"the old one")

    with folder.draft("a.png") as draft:
        draft.write(b"x" * 12 * 1024 * 1024)
        with pytest.raises(DestinationError, match="the disk is broken"):
            folder.publish(_Broken(draft, 8 * 1024 * 1024), "a.png")
    gc.collect()

    assert bucket.read("a.png") == b"the old one"
    assert bucket.names() == ["a.png"]
    assert bucket.unfinished_uploads() == []


def test_a_folder_that_cannot_be_made_says_which_one(tmp_path):
    (tmp_path / "taken").write_text("a file")

    with pytest.raises(DestinationError, match=r"taken.* could not be read or written"):
        open_folder(tmp_path / "taken" / "images").write("a.txt", b"x")


@pytest.mark.parametrize("act", ["sizes", "remove"])
def test_a_disk_that_cannot_be_listed_or_changed_says_which_folder(tmp_path, act):
    (tmp_path / "items" / "loop").mkdir(parents=True)
    (tmp_path / "items" / "loop" / "again").symlink_to("again")

    with pytest.raises(DestinationError, match=r"again.* could not be read or written"):
        getattr(open_folder(tmp_path), act)("items/loop/again/deeper")


@pytest.mark.parametrize("act", ["sizes", "remove"])
def test_a_store_that_refuses_to_be_listed_or_changed_says_which_folder(bucket, act):
    # No bucket may be called that.
    folder = open_folder("s3://image_store@images$/a")

    with pytest.raises(DestinationError, match=r"image_store@images\$/a/items could not be") as raised:
        getattr(folder, act)("items")

    assert raised.value.retryable


def test_a_bucket_that_is_not_there_says_which_one_and_does_not_say_the_key(bucket):
    folder = open_folder(bucket.destination.replace("images-", "nobodys-"))

    with pytest.raises(DestinationError, match="nobodys-") as raised:
        folder.write("a.txt", b"x")

    assert raised.value.retryable
    assert "a-secret-of-the-store" not in str(raised.value)
