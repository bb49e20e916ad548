"""Thumbnails are made once, kept within a bound, and the event loop goes on meanwhile."""

from __future__ import annotations

import asyncio
import io
import random
import sys
import threading
import time

import pytest
from PIL import Image

from airflow_gpt_image.plugins.images.refusals import BUSY, NO_PICTURE, RefusedError, unreadable
from airflow_gpt_image.plugins.images.roots import Roots
from airflow_gpt_image.plugins.images.serving.files import Files
from airflow_gpt_image.plugins.images.serving.rasters import Limits, check_picture, draw_thumbnail
from airflow_gpt_image.plugins.images.serving.sources import Source
from airflow_gpt_image.plugins.images.serving.thumbnails import Thumbnails
from airflow_gpt_image.plugins.images.tokens import Tokens


class Maker:
    """Makes thumbnails when it is let, and counts them."""

    def __init__(self, *, held=False, error=None, data=b"a thumbnail"):
        self.made = 0
        self.let = threading.Event()
        self._error, self._data = error, data
        if not held:
            self.let.set()

    def __call__(self, picture=None):
        self.made += 1
        assert self.let.wait(60)
        if self._error is not None:
            raise self._error
        return self._data


async def read():
    return b"a picture"


@pytest.fixture
def thumbnails():
    made = Thumbnails(threads=2, waiting=4, kept_bytes=10_000)
    yield made
    made.close()


def test_of_many_who_ask_at_once_one_has_it_made_and_it_is_kept(thumbnails):
    make = Maker(held=True)

    async def ask():
        asked = [asyncio.create_task(thumbnails.get("a", read, make)) for _ in range(20)]
        await asyncio.sleep(0)
        make.let.set()
        return {await each for each in asked} | {await thumbnails.get("a", read, make)}

    assert asyncio.run(ask()) == {b"a thumbnail"}
    assert make.made == 1


def test_who_goes_away_does_not_take_it_from_others(thumbnails):
    make = Maker(held=True)

    async def ask():
        first = asyncio.create_task(thumbnails.get("a", read, make))
        second = asyncio.create_task(thumbnails.get("a", read, make))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        make.let.set()
        return await second

    assert asyncio.run(ask()) == b"a thumbnail"
    assert make.made == 1


def test_a_store_that_hangs_keeps_none_of_another_ones_thumbnails(thumbnails):
    make, answers = Maker(), asyncio.Event()

    async def hang():
        await answers.wait()
        return b"a picture"

    async def ask():
        hanging = [asyncio.create_task(thumbnails.get(n, hang, make, store="a")) for n in range(4)]
        await asyncio.sleep(0)
        with pytest.raises(RefusedError) as refused:
            await thumbnails.get(4, hang, make, store="a")
        made = await thumbnails.get("b", read, make, store="b")
        answers.set()
        await asyncio.gather(*hanging)
        return refused.value.refusal, made

    assert asyncio.run(ask()) == (BUSY, b"a thumbnail")


def test_no_more_pictures_are_in_memory_than_may_be():
    thumbnails, make = Thumbnails(in_hand=2), Maker(held=True)
    begun = []

    async def read_one():
        begun.append(1)
        return b"a picture"

    async def ask():
        asked = [asyncio.create_task(thumbnails.get(n, read_one, make)) for n in range(6)]
        for _ in range(20):
            await asyncio.sleep(0)
        so_far = len(begun)
        make.let.set()
        await asyncio.gather(*asked)
        return so_far, len(begun)

    assert asyncio.run(ask()) == (2, 6)
    thumbnails.close()


def test_thumbnails_of_no_size_are_not_kept_without_number(thumbnails):
    make = Maker(data=b"")

    async def ask():
        for key in range(20):
            await thumbnails.get(key, read, make)
        await thumbnails.get(0, read, make)

    asyncio.run(ask())

    # Each is remembered as a thousand bytes, and ten thousand may be.
    assert make.made == 21


def test_more_than_may_wait_are_told_to_come_again(thumbnails):
    make = Maker(held=True)

    async def ask():
        waiting = [asyncio.create_task(thumbnails.get(key, read, make)) for key in range(4)]
        await asyncio.sleep(0)
        with pytest.raises(RefusedError) as refused:
            await thumbnails.get("one more", read, make)
        make.let.set()
        await asyncio.gather(*waiting)
        return refused.value.refusal

    assert asyncio.run(ask()) == BUSY


def test_those_asked_for_longest_ago_make_room(thumbnails):
    make = Maker(data=b"x" * 2_000)

    async def ask():
        for key in ("a", "b", "c", "a", "d", "a"):
            await thumbnails.get(key, read, make)
        so_far = make.made
        await thumbnails.get("b", read, make)
        return so_far, make.made

    assert asyncio.run(ask()) == (4, 5)


def test_what_is_no_picture_is_looked_at_once_and_a_store_that_is_away_again(thumbnails):
    no_picture = Maker(error=RefusedError(NO_PICTURE))
    away = Maker(error=RefusedError(unreadable("s3://a/b", "It is away.")))

    async def ask():
        for _ in range(3):
            for key, make in (("a", no_picture), ("b", away)):
                with pytest.raises(RefusedError):
                    await thumbnails.get(key, read, make)

    asyncio.run(ask())

    assert (no_picture.made, away.made) == (1, 3)


@pytest.mark.parametrize("size", ["256", "512", "1024", "full"])
def test_without_pillow_the_picture_itself_is_sent_in_place_of_each_thumbnail(tmp_path, monkeypatch, size):
    """The extra ``thumbnails`` isn't needed to see pictures."""
    file = tmp_path / "a.png"
    Image.new("RGB", (1536, 864), "teal").save(file)
    monkeypatch.setitem(sys.modules, "PIL", None)
    files = Files(Roots([str(tmp_path)]), Tokens("a secret of twenty-six bytes"))

    async def ask(known=None):
        answer = await files.picture(lambda: str(file), {"size": size}, known)
        sent = [chunk async for chunk in answer.body_iterator] if answer.status_code == 200 else []
        return answer, b"".join(sent)

    answer, data = asyncio.run(ask())
    again, _ = asyncio.run(ask(answer.headers["etag"]))

    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    assert answer.headers["content-length"] == str(len(data))
    assert data == file.read_bytes()
    assert again.status_code == 304


def test_without_pillow_what_is_no_picture_is_refused_as_with_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    file = tmp_path / "a.png"
    file.write_bytes(b"<!doctype html><script>alert(1)</script>")
    files = Files(Roots([str(tmp_path)]), Tokens("a secret of twenty-six bytes"))

    with pytest.raises(RefusedError) as refused:
        asyncio.run(files.picture(lambda: str(file), {"size": "256"}, None))

    assert refused.value.refusal == NO_PICTURE


def test_the_loop_goes_on_while_thumbnails_are_made(thumbnails):
    file = io.BytesIO()
    picture = Image.frombytes("RGB", (320, 180), random.Random(1).randbytes(320 * 180 * 3))
    picture.resize((3840, 2160)).save(file, "PNG", compress_level=1)
    data = file.getvalue()

    def draw(picture=None):
        source = Source(io.BytesIO(data), len(data))
        return draw_thumbnail(source, check_picture(source, Limits()), 1024)

    started = time.perf_counter()
    draw()
    alone = time.perf_counter() - started

    async def longest_gap():
        made = [asyncio.create_task(thumbnails.get(key, read, draw)) for key in range(4)]
        longest, last = 0.0, time.perf_counter()
        while not all(each.done() for each in made):
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            longest, last = max(longest, now - last), now
        await asyncio.gather(*made)
        return longest

    # Made in the loop, the gap would be as long as one takes, on any machine.
    assert asyncio.run(longest_gap()) < alone / 2
