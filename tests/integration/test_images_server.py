"""The Images tab's routes as a browser meets them: with Airflow's own logins and permissions."""

from __future__ import annotations

import asyncio
import io
import json
import os
import threading

import pytest
from PIL import Image

from tests.integration.images_server import Poster, picture

HTML = b"<!doctype html><script>alert(1)</script>"


def test_a_picture_is_served_small_and_whole_to_who_may_read_the_dag(server):
    data = picture()
    server.store("a.png", data)

    small, whole = server.get(server.image(size=256)), server.get(server.image(size="full"))

    assert (small.status_code, small.headers["content-type"]) == (200, "image/webp")
    assert Image.open(io.BytesIO(small.content)).size == (256, 144)
    assert (whole.content, whole.headers["content-type"]) == (data, "image/png")
    assert whole.headers["content-length"] == str(len(data))


def test_the_sessions_cookie_is_a_login_too(server):
    server.store("a.png", picture())
    cookie = f"_token={server.login('shopkeeper')}"

    assert server.get(server.image(size=256), user=None, cookie=cookie).status_code == 200


PATHS = ["image", "file/shop/x", "result/shop/r/t/-1/0", "data/dag/shop", "dag/shop", "all", "nowhere"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("authorization", [None, "Bearer ", "Bearer x.y.z", "Basic YTpi"])
def test_without_a_login_nothing_is_told(server, path, authorization):
    server.store("a.png", picture())
    path = server.image() if path == "image" else path

    answer = server.get(path, user=None, **({"authorization": authorization} if authorization else {}))

    assert answer.status_code in ((401,) if authorization is None else (401, 403))
    assert "shop" not in answer.text


def test_who_may_not_read_the_dag_gets_no_picture_with_whatever_token(server):
    server.store("a.png", picture())

    for user, dag_id in (
        ("visitor", "shop"),
        ("shopkeeper", "books"),
        ("shopkeeper", "~"),
        ("auditor", "shop"),
    ):
        answer = server.get(server.image(dag_id=dag_id, size=256), user=user)
        assert answer.status_code == 403
        assert "Ask for permission" in answer.text


def test_a_picture_that_others_have_had_made_is_not_served_from_memory_without_permission(server):
    server.store("a.png", picture())
    server.get(server.image(size=256))

    assert server.get(server.image(size=256), user="visitor").status_code == 403


def test_a_token_of_another_dag_and_a_forged_one_lead_nowhere(server):
    server.store("a.png", picture())
    address = server.image(size=256)
    path, _, query = address.partition("?")

    for forged in (server.image(of="books"), f"{path[:-1]}?{query}", f"{path}A?{query}", "image/shop/x"):
        assert server.get(forged).status_code == 404


def test_a_path_outside_the_roots_is_refused_whoever_signed_it(server, tmp_path):
    (tmp_path / "secret.png").write_bytes(picture())
    (server.folder / "link.png").symlink_to(tmp_path / "secret.png")

    for path in (str(tmp_path / "secret.png"), "link.png", "../secret.png", "/etc/passwd", "s3://c@b/a.png"):
        answer = server.get(server.image(path, size="full"))
        assert answer.status_code == 403
        assert "Not under the gallery roots" in answer.text


@pytest.mark.parametrize("size", ["256", "full"])
@pytest.mark.parametrize("data", [HTML, b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"", b"GIF89a"])
def test_what_is_no_picture_by_its_own_bytes_is_not_served(server, size, data):
    server.store("a.png", data)

    answer = server.get(server.image(size=size))

    assert (answer.status_code, answer.headers["content-type"]) == (415, "text/plain; charset=utf-8")
    assert "alert" not in answer.text


def test_a_picture_that_is_a_page_as_well_is_a_picture_to_a_browser(server):
    server.store("a.html", picture() + HTML)

    answer = server.get(server.image("a.html", size="full"))

    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert 'filename="a.png"' in answer.headers["content-disposition"]


def test_a_name_of_anybodys_does_not_break_out_of_the_headers(server):
    server.store('a"; x="\u202f–.png', picture())

    answer = server.get(server.image('a"; x="\u202f–.png', size="full", download=1))

    # \u202f isn't printable: no path that we store has such a character.
    assert answer.status_code == 403
    server.store('a"; x="–.png', picture())
    answer = server.get(server.image('a"; x="–.png', size="full", download=1))
    assert answer.headers["content-disposition"].startswith(
        'attachment; filename="a_x_.png"; filename*=UTF-8'
    )


def test_a_browser_that_has_it_is_told_so_until_the_file_changes(server):
    server.store("a.png", picture())
    for changed, size in enumerate((256, "full")):
        tag = server.get(server.image(size=size)).headers["etag"]

        known = server.get(server.image(size=size), **{"if-none-match": tag})
        assert (known.status_code, known.content) == (304, b"")
        os.utime(server.folder / "a.png", (changed, changed))
        assert server.get(server.image(size=size), **{"if-none-match": tag}).status_code == 200


def test_a_file_that_is_gone_and_a_size_that_we_do_not_make(server):
    server.store("a.png", picture())

    assert server.get(server.image("b.png", size=256)).status_code == 404
    for size in ("255", "0", "-1", "x", "256.0", "２５６"):
        assert server.get(server.image(size=size)).status_code == 404


def test_a_picture_that_is_too_large_to_show_can_be_downloaded(server):
    Image.new("L", (5_000, 5_000)).save(server.folder / "a.png")

    shown = [server.get(server.image(size=size)) for size in (256, "full")]
    downloaded = server.get(server.image(size="full", download=1))

    assert [answer.status_code for answer in shown] == [413, 413]
    assert "Download it." in shown[0].text
    assert (downloaded.status_code, downloaded.content) == (200, (server.folder / "a.png").read_bytes())


def test_many_who_ask_at_once_get_the_same_thumbnail(server):
    server.store("a.png", picture((2000, 1200)))

    async def ask():
        headers = {"authorization": f"Bearer {server.login('shopkeeper')}"}
        address = f"/gpt-image/{server.image(size=512)}"
        return await asyncio.gather(*(server.client.get(address, headers=headers) for _ in range(30)))

    answers = server.runner.run(ask())

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1


@pytest.mark.parametrize(
    "name",
    ["manifest.csv", "failures.jsonl", "unsettled.jsonl", "contact_sheet.html", "manifest.parquet"],
)
def test_what_a_batch_writes_is_a_download_and_nothing_a_browser_opens(server, name):
    path = server.store(name, HTML)

    answer = server.get(f"file/shop/{server.tokens.sign('shop', path)}")

    assert (answer.status_code, answer.content) == (200, HTML)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith(f'attachment; filename="{name}"')
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_other_files_under_the_roots_are_no_downloads(server):
    for name in ("secrets.json", "manifest.csv.bak", ".env", "a.png"):
        path = server.store(name, b"a secret")
        assert server.get(f"file/shop/{server.tokens.sign('shop', path)}").status_code == 404
    path = server.store("manifest.csv", b"rows")
    assert server.get(f"file/shop/{server.tokens.sign('shop', path)}", user="visitor").status_code == 403


def test_our_own_script_and_style_need_no_login_and_are_kept_where_the_address_has_their_version(server):
    from airflow_gpt_image.plugins.images.page_files import page_files_version

    for name in ("images.js", "images.css", "icon.svg"):
        kept = server.get(f"static/{page_files_version()}/{name}", user=None)
        assert (kept.status_code, "immutable" in kept.headers["cache-control"]) == (200, True)
        assert kept.headers["x-content-type-options"] == "nosniff"
        assert "immutable" not in server.get(f"static/other/{name}", user=None).headers["cache-control"]
    for name in ("page.html", "../app.py", "%2e%2e%2fapp.py", "nothing.js"):
        assert server.get(f"static/x/{name}", user=None).status_code in (401, 404)


def test_a_picture_of_a_result_is_served_by_its_place_in_it(server):
    paths = [server.store(name, picture(seed=seed)) for seed, name in enumerate(("a.png", "b.png"))]
    poster = Poster({"images": [{"path": path} for path in paths]})

    answers = [server.get(f"result/shop/{poster.run_id}/poster/-1/{at}?size=full") for at in (0, 1, 2)]

    assert [answer.status_code for answer in answers] == [200, 200, 404]
    assert [answer.content for answer in answers[:2]] == [picture(seed=0), picture(seed=1)]
    assert (
        server.get(f"result/shop/{poster.run_id}/poster/-1/0?size=256").headers["content-type"]
        == "image/webp"
    )
    assert server.get(f"result/shop/{poster.run_id}/poster/-1/0", user="visitor").status_code == 403


@pytest.mark.parametrize(
    ("result", "status"),
    [
        (None, 404),
        ("images", 404),
        ({"images": "abc"}, 404),
        ({"images": [None]}, 404),
        ({"images": [{"path": None}]}, 404),
        ({"images": [{"path": ["/etc/passwd"]}]}, 404),
        ({"images": [{"path": "/etc/passwd"}]}, 403),
        ({"images": [{"path": "s3://other@bucket/a.png"}]}, 403),
    ],
)
def test_a_result_that_holds_anything_else_shows_nothing(server, result, status):
    poster = Poster(result)

    assert server.get(f"result/shop/{poster.run_id}/poster/-1/0").status_code == status


@pytest.mark.parametrize(
    "rest", ["poster/-1/-1", "poster/-1/x", "poster/-1/9999999", "poster/5/0", "other/-1/0", "poster/-2/0"]
)
def test_a_place_that_is_not_in_the_result_is_not_there(server, rest):
    poster = Poster({"images": [{"path": server.store("a.png", picture())}]})

    assert server.get(f"result/shop/{poster.run_id}/{rest}").status_code == 404


def test_a_page_holds_its_document_and_the_document_is_had_alone_and_once(server):
    poster = Poster({"generation_id": "g", "images": [{"path": server.store("a.png", picture())}]})
    place = f"task/shop/{poster.run_id}/poster/-1"

    page, data = server.get(place), server.get(f"data/{place}")

    embedded = page.text.partition('id="document">')[2].partition("</script>")[0]
    assert json.loads(embedded) | {"updated": 0} == data.json() | {"updated": 0}
    assert data.json()["kind"] == "single"
    again = server.get(f"data/{place}", **{"if-none-match": data.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert server.get(f"data/{place}/tile/no-such-tile").status_code == 404


def test_an_address_that_leads_nowhere_is_a_polite_page(server):
    answer = server.get("nowhere/at/all")

    assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "This address leads to no page of the Images tab." in answer.text
    assert "script-src 'self'" in answer.headers["content-security-policy"]


def test_who_may_not_read_the_dag_is_told_by_page_and_document(server):
    page, data = server.get("dag/books"), server.get("data/dag/books")

    assert (page.status_code, data.status_code) == (403, 403)
    assert (data.json()["kind"], data.json()["why"]) == ("problem", "Ask for permission to read books.")
    assert "You may not see this Dag" in page.text
    assert server.get("data/asset/1", user="visitor").status_code == 403


def test_nothing_is_loaded_before_the_first_request_and_simultaneous_ones_get_one_application(
    tmp_path, monkeypatch
):
    (tmp_path / "made_for_this_test.py").write_text(
        "import threading\n"
        "asked = []\n"
        "async def app(scope, receive, send):\n"
        "    scope['answered_by'].append(app)\n"
        "def make_app():\n"
        "    asked.append(threading.current_thread())\n"
        "    return app\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    from airflow_gpt_image.plugins.made_when_asked import MadeWhenAsked

    app = MadeWhenAsked("made_for_this_test")
    answered = []

    async def ask():
        await asyncio.gather(*(app({"answered_by": answered}, None, None) for _ in range(5)))

    asyncio.run(ask())
    import made_for_this_test

    assert len(answered) == 5
    (made_by,) = made_for_this_test.asked
    assert made_by is not threading.main_thread()
