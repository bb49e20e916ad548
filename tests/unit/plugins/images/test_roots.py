"""What the API server may show: nothing but what is in the folders that an administrator named."""

from __future__ import annotations

import os

import pytest

from airflow_gpt_image.plugins.images.roots import NO_PATH, NO_ROOTS, OUTSIDE, OutsideRootsError, Roots

STORE = "s3://shop_aws@pictures/2026"


@pytest.fixture
def folder(tmp_path):
    """A root on disk with a picture in it, and a secret beside the root."""
    made = tmp_path / "images"
    made.mkdir()
    (made / "a.png").write_bytes(b"a picture")
    (tmp_path / "secret.png").write_bytes(b"a secret")
    return made


@pytest.fixture
def roots(folder):
    return Roots([str(folder), STORE])


def test_without_roots_nothing_is_served(folder):
    assert Roots([]).check(str(folder / "a.png")) == NO_ROOTS
    assert not Roots([])


def test_what_is_in_a_root_is_served(roots, folder):
    assert roots.check(str(folder / "a.png")) is None
    assert roots.check(f"file://{folder}/a.png") is None
    assert roots.check(str(folder / "deep" / "er" / "not-there-yet.png")) is None
    assert roots.check(f"{STORE}/11/a.png") is None


def test_a_path_outside_the_roots_is_refused(roots, folder):
    for path in ("/etc/passwd", str(folder.parent / "secret.png"), f"{folder}x/a.png", str(folder)):
        assert roots.check(path) == OUTSIDE


@pytest.mark.parametrize(
    "way",
    [
        "../secret.png",
        "a/../../secret.png",
        "./a.png",
        "a//b.png",
        "%2e%2e/secret.png",
        "%252e%252e/secret.png",
        "..%2fsecret.png",
        "%2e%2e%5csecret.png",
        "a\0.png",
        "a\n.png",
        "a\u202e.png",
        "\ud800.png",
    ],
)
def test_a_way_that_could_lead_out_is_refused_on_disk_and_store(roots, folder, way):
    for root in (str(folder), f"file://{folder}", STORE):
        assert roots.check(f"{root}/{way}") == NO_PATH


@pytest.mark.parametrize(
    "path",
    [
        "s3://shop_aws@pictures/2026",
        "s3://shop_aws@pictures/20260/a.png",
        "s3://shop_aws@pictures/a.png",
        "s3://shop_aws@pictures2/2026/a.png",
        "s3://shop_aws@Pictures/2026/a.png",
        "s3://admin_aws@pictures/2026/a.png",
        "s3://pictures/2026/a.png",
        "s3a://shop_aws@pictures/2026/a.png",
        "gs://shop_aws@pictures/2026/a.png",
    ],
)
def test_another_bucket_folder_connection_or_store_is_outside(roots, path):
    assert roots.check(path) == OUTSIDE


@pytest.mark.parametrize(
    "path",
    [
        "",
        "a.png",
        "x" * 5_000,
        "https://pictures.example.com/a.png",
        "s3://user:password@pictures/2026/a.png",
        f"{STORE}/a.png?versionId=3",
        f"{STORE}/a.png#x",
        f"{STORE}/a.png::file:///etc/passwd",
        f"simplecache::{STORE}/a.png",
        "s3:///2026/a.png",
        "s3://shop_aws@/2026/a.png",
        "file://another-host/etc/passwd",
        None,
        7,
    ],
)
def test_what_is_no_path_of_a_file_is_refused(roots, path):
    assert roots.check(path) == NO_PATH


def test_a_link_out_of_a_root_is_followed_and_refused(roots, folder):
    (folder / "link.png").symlink_to(folder.parent / "secret.png")
    (folder / "out").symlink_to(folder.parent)

    assert roots.check(str(folder / "link.png")) == OUTSIDE
    assert roots.check(str(folder / "out" / "secret.png")) == OUTSIDE
    assert roots.check(str(folder / "out" / "images" / "a.png")) is None


def test_a_root_may_be_a_link_itself(folder, tmp_path):
    (tmp_path / "mount").symlink_to(folder)
    roots = Roots([str(tmp_path / "mount")])

    with roots.locate(str(tmp_path / "mount" / "a.png")).open_on_disk() as file:
        assert file.read() == b"a picture"
    assert roots.check(str(tmp_path / "secret.png")) == OUTSIDE


def test_links_in_a_circle_lead_nowhere(roots, folder):
    (folder / "loop").symlink_to(folder / "loop")

    with pytest.raises(OSError, match=r"symbolic links|Not a directory"):
        roots.locate(str(folder / "loop" / "a.png")).open_on_disk()


@pytest.mark.parametrize("swapped", ["sub", "sub/a.png"])
def test_what_becomes_a_link_after_it_was_judged_is_not_opened(roots, folder, swapped):
    (folder / "sub").mkdir()
    (folder / "sub" / "a.png").write_bytes(b"a picture")
    (folder.parent / "outside").mkdir()
    (folder.parent / "outside" / "a.png").write_bytes(b"a secret")
    location = roots.locate(str(folder / "sub" / "a.png"))

    (folder / swapped).rename(folder / "moved")
    outside = folder.parent / "outside"
    (folder / swapped).symlink_to(outside if swapped == "sub" else outside / "a.png")

    with pytest.raises(OSError, match=r"symbolic link|Not a directory"):
        location.open_on_disk()


def test_a_pipe_and_a_folder_are_not_opened(roots, folder):
    os.mkfifo(folder / "pipe.png")
    (folder / "folder.png").mkdir()

    for name in ("pipe.png", "folder.png"):
        with pytest.raises(OSError, match=r"regular file|Is a directory"):
            roots.locate(str(folder / name)).open_on_disk()


@pytest.mark.parametrize("root", ["/", "images", "/data/../etc", "s3://", "s3://a:b@pictures", "https://x.y"])
def test_a_root_that_makes_no_sense_is_refused(root):
    with pytest.raises(ValueError, match=r"is not a folder|whole disk"):
        Roots([root])


def test_the_configuration_names_roots_and_one_that_makes_no_sense_is_left_out(folder, monkeypatch, caplog):
    monkeypatch.setenv("AIRFLOW__GPT_IMAGE__GALLERY_ROOTS", f" {folder}/ ,\n/, {STORE}/")

    roots = Roots.from_config()

    assert roots.check(str(folder / "a.png")) is None
    assert roots.check(f"{STORE}/a.png") is None
    assert roots.check("/etc/passwd") == OUTSIDE
    assert "'/' is the whole disk" in caplog.text


def test_the_reason_names_the_setting_and_who_can_help():
    with pytest.raises(OutsideRootsError, match=r"\[gpt_image\] gallery_roots.*administrator"):
        Roots([]).locate("/data/a.png")


def test_a_root_that_becomes_a_link_afterwards_stays_the_folder_that_it_was(folder, tmp_path):
    roots = Roots([str(folder)])
    assert roots.check(str(folder / "a.png")) is None
    location = roots.locate(str(folder / "a.png"))

    folder.rename(tmp_path / "moved")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "a.png").write_bytes(b"a secret")
    folder.symlink_to(tmp_path / "outside")

    assert roots.check(str(folder / "a.png")) == OUTSIDE
    with pytest.raises(OSError, match=r"symbolic link|Not a directory"):
        location.open_on_disk()


def test_a_folder_above_the_root_that_becomes_a_link_is_not_followed(tmp_path):
    (tmp_path / "team" / "images").mkdir(parents=True)
    (tmp_path / "other" / "images").mkdir(parents=True)
    (tmp_path / "other" / "images" / "a.png").write_bytes(b"a secret")
    location = Roots([str(tmp_path / "team" / "images")]).locate(str(tmp_path / "team" / "images" / "a.png"))

    (tmp_path / "team").rename(tmp_path / "moved")
    (tmp_path / "team").symlink_to(tmp_path / "other")

    with pytest.raises(OSError, match=r"symbolic link|Not a directory"):
        location.open_on_disk()


def test_a_root_that_is_not_there_yet_is_one_when_it_is(tmp_path):
    roots = Roots([str(tmp_path / "mount" / "images")])
    path = tmp_path / "mount" / "images" / "a.png"
    assert roots.check(str(path)) is None

    (tmp_path / "disk" / "images").mkdir(parents=True)
    (tmp_path / "mount").symlink_to(tmp_path / "disk")
    path.write_bytes(b"a picture")

    with roots.locate(str(path)).open_on_disk() as file:
        assert file.read() == b"a picture"


def test_a_link_to_the_whole_disk_is_no_root(tmp_path):
    (tmp_path / "all").symlink_to("/")
    roots = Roots([str(tmp_path / "all")])

    assert roots.check("/etc/passwd") == OUTSIDE
    assert roots.check(str(tmp_path / "all" / "etc" / "passwd")) == OUTSIDE


@pytest.mark.parametrize(
    "root", ["//", "///", "/.", "/data//images", "file:///", "file://host/a", "", " ", "~/a"]
)
def test_a_root_that_could_be_another_one_is_refused(root):
    with pytest.raises(ValueError, match=r"is not a folder|whole disk"):
        Roots([root])


def test_a_root_may_end_with_slashes_and_be_an_address_of_the_disk(folder):
    for root in (f"{folder}/", f"{folder}///", f"file://{folder}/", f"file://localhost{folder}"):
        assert Roots([root]).check(str(folder / "a.png")) is None
        assert Roots([root]).check(str(folder.parent / "secret.png")) == OUTSIDE


def test_each_root_is_a_store_by_itself_also_behind_its_links(folder, tmp_path):
    (tmp_path / "mount").symlink_to(folder)
    roots = Roots([str(tmp_path / "mount"), STORE])
    assert roots.check(str(tmp_path / "mount" / "a.png")) is None

    assert roots.store_of(str(tmp_path / "mount" / "a.png")) == str(tmp_path / "mount")
    assert roots.store_of(str(folder / "a.png")) == str(tmp_path / "mount")
    assert roots.store_of(f"{STORE}/a.png") == "s3://shop_aws@pictures"
