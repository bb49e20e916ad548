"""What lies at a destination is a Dag author's word: it is read under the roots alone, and in time."""

from __future__ import annotations

import os
import threading

import pytest

from airflow_gpt_image.errors import DestinationError
from airflow_gpt_image.plugins.images.documents.folder_under_roots import open_under_roots
from airflow_gpt_image.plugins.images.documents.plan_bounds import require_bounded_plan
from airflow_gpt_image.plugins.images.roots import Roots
from airflow_gpt_image.plugins.images.threads import StoreThreads


@pytest.fixture
def folder(place):
    place.write("batch/items/a.json", b"{}")
    place.write("batch/plan.jsonl", b"a plan")
    return open_under_roots(f"{place.destination}/batch", Roots([place.destination]))


def test_files_are_read_and_listed(folder):
    assert folder.read("items/a.json") == b"{}"
    assert folder.size("items/a.json") == 2
    assert folder.sizes("items") == {"items/a.json": 2}
    assert folder.told("items/a.json")[0] == 2
    with folder.open("plan.jsonl") as file:
        assert file.read() == b"a plan"


def test_what_is_not_there_is_none(folder):
    assert (folder.read("b"), folder.size("b"), folder.told("b")) == (None, None, None)
    assert folder.sizes("b") == {}
    with pytest.raises(DestinationError):
        folder.open("b")


def test_nothing_is_written(folder):
    for write in (lambda: folder.write("a", b""), lambda: folder.remove("items/a.json")):
        with pytest.raises(DestinationError, match="reading alone"):
            write()
    assert folder.read("items/a.json") == b"{}"


@pytest.fixture
def elsewhere(tmp_path):
    """A folder outside of the root, with the same names."""
    (tmp_path / "secret" / "items").mkdir(parents=True)
    (tmp_path / "secret" / "items" / "a.json").write_bytes(b"a secret")
    return tmp_path / "secret"


@pytest.fixture
def batch(tmp_path):
    folder = tmp_path / "images" / "batch"
    (folder / "items").mkdir(parents=True)
    (folder / "items" / "a.json").write_bytes(b"{}")
    return folder


@pytest.mark.parametrize("swapped", ["items", "items/a.json", "."])
def test_what_has_become_a_link_to_elsewhere_is_not_read(batch, elsewhere, swapped):
    folder = open_under_roots(str(batch), Roots([str(batch.parent)]))

    (batch / swapped).resolve().rename(batch.parent / "moved")
    (batch / swapped).resolve().symlink_to(elsewhere / swapped if swapped != "." else elsewhere)

    for ask in (folder.read, folder.size, folder.open, folder.told):
        with pytest.raises(DestinationError, match="gallery_roots"):
            ask("items/a.json")
    if swapped == "items/a.json":
        assert folder.sizes("items") == {}
    else:
        with pytest.raises(DestinationError, match="gallery_roots"):
            folder.sizes("items")


def test_a_link_within_the_roots_is_followed(batch):
    (batch.parent / "b.json").write_bytes(b"[1]")
    (batch / "items" / "b.json").symlink_to(batch.parent / "b.json")
    folder = open_under_roots(str(batch), Roots([str(batch.parent)]))

    assert folder.read("items/b.json") == b"[1]"
    assert folder.sizes("items") == {"items/a.json": 2, "items/b.json": 3}


def test_pipes_devices_and_folders_are_no_files(batch):
    os.mkfifo(batch / "items" / "pipe.json")
    (batch / "items" / "zero.json").symlink_to("/dev/zero")
    (batch / "items" / "folder.json").mkdir()
    folder = open_under_roots(str(batch), Roots([str(batch.parent)]))

    assert folder.sizes("items") == {"items/a.json": 2}
    for name in ("pipe", "zero", "folder"):
        with pytest.raises(DestinationError):
            folder.read(f"items/{name}.json")


def test_a_disk_that_hangs_is_told_and_holds_nobody(batch):
    answers, threads = threading.Event(), StoreThreads(1, "a", seconds=0.05)
    roots = Roots([str(batch.parent)])
    folder = open_under_roots(str(batch), roots, threads=threads)
    held = threads.begin(roots.store_of(str(batch)), answers.wait)

    for _ in range(3):
        with pytest.raises(DestinationError, match="doesn't answer in time"):
            folder.read("items/a.json")

    answers.set()
    assert held.result(60)


def test_many_calls_are_waited_for_as_one_and_each_has_its_own_error(batch, elsewhere):
    (batch / "items" / "link.json").symlink_to(elsewhere / "items" / "a.json")
    folder = open_under_roots(str(batch), Roots([str(batch.parent)]))

    def ask():
        with pytest.raises(DestinationError, match="gallery_roots"):
            folder.read("items/link.json")
        return [folder.read("items/a.json"), folder.read("items/b.json"), threading.current_thread().name]

    *found, thread = folder.together(ask)

    assert found == [b"{}", None]
    assert thread.startswith("gpt-image-stores")


def plan_file(tmp_path, lines):
    file = (tmp_path / "plan.jsonl").open("w+b")
    file.writelines(line + b"\n" for line in lines)
    return file


@pytest.mark.parametrize(
    "lines",
    [
        [b'{"variants": 100}', *[b"{}"] * 1_001],
        [b'{"variants": 1}', *[b"{}"] * 100_001],
        [b'{"variants": 1}', b"[" + b"{}," * 800_000 + b"{}]"],
        [b'{"variants": 1}', b'"' + b"x" * 9_000_000 + b'"'],
    ],
    ids=["variants", "rows", "parts", "bytes"],
)
def test_a_plan_larger_than_any_batchs_is_refused_before_it_is_read(tmp_path, lines):
    with pytest.raises(DestinationError, match="larger than any batch's"):
        require_bounded_plan(plan_file(tmp_path, lines))


@pytest.mark.parametrize("head", [b"", b"[", b"[]", b'{"variants": "x"}', b"[" * 100_000])
def test_a_plan_that_is_none_is_left_to_its_reader(tmp_path, head):
    with plan_file(tmp_path, [head, b"{}"]) as file:
        require_bounded_plan(file)
