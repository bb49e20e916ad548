"""Both clients and servers that would lead them elsewhere: redirects and cookies."""

from __future__ import annotations

import io
import json

import httpx
import pytest

from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.errors import DownloadError, GptImageError, SubmissionUnknownError

ID = "397ce9f2-c04e-4244-ac33-3af19a7cc297"
URL = "https://file.aivideoapi.ai/images/abc123.png"
REQUEST = ImageRequest(prompt="a red bicycle", aspect_ratio="16:9")
DONE = {"id": ID, "status": "completed", "output": {"urls": [URL]}}


class Api:
    """Answers with the next of these answers, and then the last for ever; an exception is raised."""

    def __init__(self, *answers):
        self.requests = []
        self._answers = list(answers)

    def __call__(self, request):
        self.requests.append(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, dict):
            answer = (200, answer)
        status, body, *headers = answer
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        # A stream, as from a socket: how the client reads it is its own business.
        return httpx.Response(status, headers=headers[0] if headers else None, stream=httpx.ByteStream(raw))


LOCATIONS = [
    "https://elsewhere.example/",
    "/v1/elsewhere",
    "mailto:x",
    "a:b",
    "http:x",
    "//",
    "http://[bad",
    "?",
    "",
    "\\",
    "https://xn--.example/",
    "https://[x]/",
    "http://h:99999/",
    "javascript:1",
    ":",
    "http://\x7f/",
]


@pytest.mark.parametrize("location", LOCATIONS)
@pytest.mark.parametrize("status", [302, 307])
def test_a_submit_that_is_redirected_wherever_is_neither_followed_nor_sent_again(connect, status, location):
    api = Api((status, b"", {"location": location}))

    with pytest.raises(SubmissionUnknownError):
        connect(handler=api).submit(REQUEST)

    assert len(api.requests) == 1


@pytest.mark.parametrize("location", LOCATIONS)
def test_a_read_that_is_redirected_wherever_takes_the_key_nowhere(connect, location):
    api = Api((302, b"", {"location": location}))

    with pytest.raises(GptImageError):
        connect(handler=api).get(ID)

    assert {str(request.url) for request in api.requests} == {f"https://api.aivideoapi.ai/v1/tasks/{ID}"}


@pytest.mark.parametrize("location", LOCATIONS[2:])
def test_an_image_that_is_redirected_to_nonsense_is_no_image(connect, location):
    api = Api((302, b"", {"location": location}))

    with pytest.raises(DownloadError):
        connect(handler=api).download(URL, io.BytesIO())


def test_an_image_that_is_redirected_is_fetched_from_there_without_the_key(connect):
    api = Api((302, b"", {"location": "https://cdn.example.com/1.png"}), (200, b"PNG"))

    arrived = connect(handler=api).download(URL, io.BytesIO())

    assert arrived.url == "https://cdn.example.com/1.png"
    assert all("authorization" not in request.headers for request in api.requests)


def test_cookies_are_neither_kept_nor_carried_to_where_images_are(connect, api_key):
    cookie = {"set-cookie": f"session={api_key}; Domain=aivideoapi.ai; Path=/"}
    api = Api((200, DONE, cookie), (200, b"PNG"))
    client = connect(handler=api)

    client.get(ID)
    client.download(URL, io.BytesIO())

    assert "cookie" not in api.requests[1].headers


@pytest.mark.parametrize("cookie", ["a=\x80", "\x80", "=", "a=b; Max-Age=x; Port=y", "a=" + "b" * 60_000])
def test_a_cookie_of_the_api_can_not_spoil_the_calls_that_follow(connect, cookie):
    client = connect(handler=Api((200, DONE, [(b"set-cookie", cookie.encode("latin-1"))]), DONE))

    client.get(ID)

    assert client.get(ID).finished


def test_a_submit_whose_answer_sets_a_cookie_and_redirects_is_unknown_and_sent_once(connect):
    api = Api((302, b"", [(b"set-cookie", b"a=\x80"), (b"location", b"/")]))

    with pytest.raises(SubmissionUnknownError):
        connect(handler=api).submit(REQUEST)

    assert len(api.requests) == 1
