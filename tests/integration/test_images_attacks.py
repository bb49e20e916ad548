"""The Images tab under attack: by who writes Dags, by who sends requests, and by stores that hang."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from contextlib import suppress

import anyio.to_thread
import pytest
from fastapi import FastAPI

from tests.integration.images_server import Poster, Server, picture

SILENT = "s3://silent_store@pictures/images"


@pytest.fixture
def silent_store(monkeypatch):
    """A store that takes connections and never answers; the ports of who asked it."""
    with socket.create_server(("127.0.0.1", 0), backlog=200) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        extra = {
            "endpoint_url": url,
            "region_name": "us-east-1",
            "config_kwargs": {"retries": {"max_attempts": 0}},
        }
        connection = {"conn_type": "aws", "login": "a", "password": "b", "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_SILENT_STORE", json.dumps(connection))
        yield listening
        # Whoever still waits is let go.
        listening.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                listening.accept()[0].close()


@pytest.fixture
def impatient(server, silent_store):
    """A server that also shows what is at the silent store, if it answers within a second."""
    from airflow_gpt_image.plugins.images.app import ImagesTab
    from airflow_gpt_image.plugins.images.roots import Roots

    app = FastAPI()
    app.mount("/gpt-image", ImagesTab(Roots([str(server.folder), SILENT]), server.tokens, seconds=1).app())
    made = Server(server.runner, app, server.folder)
    yield made
    server.runner.run(made.client.aclose())


def ask_all(server, paths):
    headers = {"authorization": f"Bearer {server.login('shopkeeper')}"}
    return [asyncio.ensure_future(server.client.get(f"/gpt-image/{path}", headers=headers)) for path in paths]


def test_a_store_that_hangs_keeps_nobody_from_the_pictures_of_another(impatient):
    impatient.store("a.png", picture())
    tiles = [impatient.image(f"{SILENT}/{number}.png", size=256) for number in range(60)]

    async def ask():
        hanging = ask_all(impatient, tiles)
        here = ask_all(impatient, [impatient.image(size=256), impatient.image(size="full")])
        return [await answer for answer in here], [await answer for answer in hanging]

    here, hanging = impatient.runner.run(ask())

    assert [answer.status_code for answer in here] == [200, 200]
    assert {answer.status_code for answer in hanging} == {504}
    assert "The store or the database doesn't answer" in hanging[0].text


@pytest.fixture
def busy_airflow(server):
    """All threads are taken in which Airflow's own routes run."""

    async def take():
        limiter = anyio.to_thread.current_default_thread_limiter()
        for number in range(int(limiter.total_tokens)):
            limiter.acquire_on_behalf_of_nowait(number)

    server.runner.run(take())


@pytest.mark.usefixtures("busy_airflow")
def test_no_picture_takes_a_thread_of_airflows_own_routes(server):
    large = picture((1600, 1200))
    server.store("a.png", large)
    server.store("manifest.csv", b"a,b\n" * 300_000)
    paper = f"file/shop/{server.tokens.sign('shop', str(server.folder / 'manifest.csv'))}"

    async def ask():
        paths = [server.image(size=256), server.image(size="full"), paper, "dag/shop"]
        return await asyncio.wait_for(asyncio.gather(*ask_all(server, paths)), 60)

    small, whole, file, page = server.runner.run(ask())

    assert {answer.status_code for answer in (small, whole, file, page)} == {200}
    assert (whole.content, len(file.content)) == (large, 1_200_000)


NUL = "a%00b"


@pytest.mark.parametrize(
    "path",
    [
        f"image/{NUL}/x",
        f"file/{NUL}/x",
        f"result/{NUL}/r/t/-1/0",
        f"result/shop/{NUL}/t/-1/0",
        f"result/shop/r/{NUL}/-1/0",
        f"data/dag/{NUL}",
        f"data/run/shop/{NUL}",
        f"data/task/shop/r/{NUL}/-1",
        f"data/dag/shop?run={NUL}",
        f"dag/shop?text={NUL}",
        f"data/run/shop/r/tile/{NUL}",
    ],
)
def test_a_text_that_postgresql_refuses_is_refused_before_it_is_asked(server, path):
    assert server.get(path).status_code in (403, 404)


@pytest.mark.parametrize(
    "path",
    [
        "data/dag/%ff%fe",
        "data/dag/%ed%a0%80",
        "dag/shop%0d%0aset-cookie:%20a=b",
        "image/shop/%0d%0aset-cookie:%20a=b",
        "dag/%22%3e%3cscript%3ealert(1)%3c%2fscript%3e",
        "data/run/shop/%e2%80%ae",
        "dag/shop?text=" + "x" * 50_000,
        "dag/shop?" + "a=b&" * 10_000,
        "dag/shop?page=99999999999999999999&days=-1&sort=__class__&status=%00",
        "data/asset/999999999999999999",
        "data/asset/%D9%A1",
        "data/task/shop/r/t/999999999",
        "data/task/shop/r/t/loop-999999999-999999999",
        "image/shop/" + "x" * 50_000,
        "static/../../app.py",
        "static/x/..%2f..%2fapp.py",
        "%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "result/shop/r/t/-1/٣",
    ],
)
def test_addresses_of_anybodys_are_answered_and_never_with_an_error_of_the_server(server, path):
    answer = server.get(path)

    assert answer.status_code in (200, 403, 404)
    assert "set-cookie" not in answer.headers
    assert "<script>alert" not in answer.text
    # What has a line's end in it, or leads out of the mount, is no address of ours, and Airflow answers.
    if answer.text != '{"detail":"Not Found"}':
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "content-security-policy" in answer.headers


def test_other_methods_and_parts_of_files_are_not_what_they_are_elsewhere(server):
    data = picture()
    server.store("a.png", data)
    headers = {"authorization": f"Bearer {server.login('shopkeeper')}"}
    address = f"/gpt-image/{server.image(size='full')}"

    part = server.get(server.image(size="full"), range="bytes=0-3")
    others = [
        server.runner.run(server.client.request(method, address, headers=headers))
        for method in ("HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE")
    ]

    assert (part.status_code, part.content) == (200, data)
    assert {answer.status_code for answer in others} == {405}


def test_a_token_opens_nothing_on_another_route(server):
    image = server.tokens.sign("shop", server.store("a.png", picture()))
    paper = server.tokens.sign("shop", server.store("manifest.csv", b"a,b"))

    assert server.get(f"file/shop/{image}").status_code == 404
    assert server.get(f"image/shop/{paper}").status_code == 415
    assert server.get(f"result/shop/r/t/-1/{image}").status_code == 404


def test_a_token_of_before_the_roots_were_changed_opens_nothing(server, tmp_path):
    from airflow_gpt_image.plugins.images.app import ImagesTab
    from airflow_gpt_image.plugins.images.roots import Roots

    server.store("a.png", picture())
    app = FastAPI()
    app.mount("/gpt-image", ImagesTab(Roots([str(tmp_path / "others")]), server.tokens).app())
    later = Server(server.runner, app, server.folder)

    assert server.get(server.image(size=256)).status_code == 200
    assert later.get(later.image(size=256)).status_code == 403
    server.runner.run(later.client.aclose())


@pytest.mark.parametrize("size", ["256", "full"])
def test_what_is_no_file_is_not_waited_for(server, size):
    os.mkfifo(server.folder / "pipe.png")
    (server.folder / "zero.png").symlink_to("/dev/zero")
    (server.folder / "environment.png").symlink_to("/proc/self/environ")
    (server.folder / "folder.png").mkdir()

    names = ("pipe", "zero", "environment", "folder")
    found = [server.get(server.image(f"{name}.png", size=size)).status_code for name in names]

    assert found == [502, 403, 403, 502]


def test_texts_of_a_dags_author_are_only_texts_in_page_and_document(server):
    evil = "</script><script>alert(1)</script>\u202e\u2028\ud800\0"
    path = server.store("a.png", picture())
    poster = Poster(
        {
            "generation_id": evil,
            "prompt": evil,
            "images": [{"path": path, "sha256": evil}, {"path": evil}, {"url": f"javascript:{evil}"}],
        }
    )
    place = f"task/shop/{poster.run_id}/poster/-1"

    page, data = server.get(place), server.get(f"data/{place}")

    assert (page.status_code, data.status_code) == (200, 200)
    assert page.text.count("<script") == server.get("dag/books").text.count("<script")
    assert page.text.partition('id="document">')[2].partition("</script>")[0].isascii()
    assert "javascript:" not in json.dumps([image["full"] for image in data.json()["picture"]["images"]])
