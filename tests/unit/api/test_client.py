"""Both clients over a transport: the same tests for the blocking and the asynchronous one."""

from __future__ import annotations

import inspect
import io
import json
import time
import traceback
from decimal import Decimal

import httpx
import pytest

from airflow_gpt_image import errors
from airflow_gpt_image.api.client import AsyncGptImageClient, GptImageClient
from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.api.retrying import Retrying
from airflow_gpt_image.api.settings import ClientSettings
from airflow_gpt_image.errors import (
    ConnectionFailedError,
    DownloadError,
    GptImageError,
    ImageRefusedError,
    InvalidApiKeyError,
    InvalidSettingsError,
    SubmissionUnknownError,
)

ID = "397ce9f2-c04e-4244-ac33-3af19a7cc297"
URL = "https://file.aivideoapi.ai/images/abc123.png"
REQUEST = ImageRequest(prompt="a red bicycle", aspect_ratio="16:9")
ACCEPTED = {"code": 200, "msg": "success", "data": {"taskId": ID}}
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


# --- the two clients are one --------------------------------------------------------------------------------


def _methods(kind):
    found = {name: member for name, member in vars(kind).items() if inspect.isfunction(member)}
    return {name: member for name, member in found.items() if not name.startswith("_")}


def test_both_clients_offer_the_same_methods_with_the_same_arguments():
    blocking, on_a_loop = _methods(GptImageClient), _methods(AsyncGptImageClient)

    assert set(blocking) - {"close"} == set(on_a_loop) - {"aclose"}
    for name in set(blocking) - {"close"}:
        assert inspect.signature(blocking[name]) == inspect.signature(on_a_loop[name])
        assert inspect.iscoroutinefunction(on_a_loop[name])


# --- what is sent -------------------------------------------------------------------------------------------


def test_a_submit_is_the_documents_request(connect):
    api = Api(ACCEPTED)

    generation_id = connect(handler=api).submit(REQUEST)

    (request,) = api.requests
    assert generation_id == ID
    assert request.method == "POST"
    assert str(request.url) == "https://api.aivideoapi.ai/v1/images/generations"
    assert request.headers["content-type"] == "application/json"
    assert json.loads(request.content) == {
        "model": "gpt-image-2",
        "input": {
            "prompt": "a red bicycle",
            "aspect_ratio": "16:9",
            "resolution": "1k",
            "nsfw_checker": True,
        },
    }


def test_the_key_is_a_bearer_token_of_every_call_to_the_api(connect, api_key):
    api = Api(DONE, {"credits": 1})
    client = connect(handler=api)

    client.get(ID)
    client.credits()

    assert [request.headers["authorization"] for request in api.requests] == [f"Bearer {api_key}"] * 2


def test_the_paths_are_below_the_base_url(connect):
    api = Api(DONE)

    connect(handler=api, base_url="https://proxy.example.com/gpt/").get(ID)

    assert str(api.requests[0].url) == f"https://proxy.example.com/gpt/v1/tasks/{ID}"


def test_text_in_any_script_arrives_as_it_was_written(connect):
    api = Api(ACCEPTED)

    connect(handler=api).submit(ImageRequest(prompt="Ünïcödé 🚲 \x00 \u2028"))

    assert json.loads(api.requests[0].content)["input"]["prompt"] == "Ünïcödé 🚲 \x00 \u2028"


def test_an_image_is_fetched_without_the_key(connect, api_key):
    api, into = Api((200, b"PNG", {"content-type": "image/png"})), io.BytesIO()

    arrived = connect(handler=api).download(URL, into)

    (request,) = api.requests
    assert into.getvalue() == b"PNG"
    assert (arrived.content_type, arrived.bytes) == ("image/png", 3)
    assert api_key not in str(request.headers.raw) + str(request.url)
    assert "authorization" not in request.headers


def test_an_image_on_the_apis_own_host_is_fetched_without_the_key_too(connect):
    api = Api((200, b"PNG"))

    connect(handler=api).download("https://api.aivideoapi.ai/images/1.png", io.BytesIO())

    assert "authorization" not in api.requests[0].headers


# --- what comes back ----------------------------------------------------------------------------------------


def test_generate_submits_waits_and_returns_the_images(connect):
    api = Api(ACCEPTED, {"id": ID, "status": "pending"}, DONE)

    generation = connect(handler=api).generate(REQUEST, poll_interval=0.001, timeout=60)

    assert generation.urls == (URL,)
    assert [request.method for request in api.requests] == ["POST", "GET", "GET"]


def test_wait_and_wait_until_return_the_finished_generation(connect):
    client = connect(handler=Api(DONE))

    assert client.wait(ID, poll_interval=1, timeout=60).finished
    assert client.wait_until(ID, poll_interval=1, deadline=time.time()).finished


def test_both_clients_report_each_poll(connect):
    api = Api({"id": ID, "status": "pending"}, httpx.ConnectError("refused"), DONE)
    polls = []

    client = connect(handler=api, retrying=Retrying(first_pause=0.01))
    client.wait_until(
        ID,
        poll_interval=0.01,
        deadline=time.time() + 60,
        on_poll=lambda seen: polls.append(len(api.requests)),
    )

    assert polls == [1, 2, 3]


def test_waiting_ends_at_the_timeout(connect):
    client = connect(handler=Api({"id": ID, "status": "processing"}))

    with pytest.raises(errors.GenerationTimeoutError) as caught:
        client.wait(ID, poll_interval=0.01, timeout=0.03)

    assert caught.value.generation_id == ID


def test_the_balance_is_read(connect):
    assert connect(handler=Api({"data": {"credits": "94.5"}})).credits() == Decimal("94.5")


# The document's error table, for each of the client's own kinds of calls.
ROWS = [
    (400, "invalid_request", errors.InvalidRequestError, 1),
    (401, "invalid_api_key", errors.InvalidApiKeyError, 1),
    (402, "insufficient_credits", errors.InsufficientCreditsError, 1),
    (403, "ip_not_allowed", errors.IpNotAllowedError, 1),
    (404, "model_not_found", errors.ModelNotFoundError, 1),
    (404, "task_not_found", errors.GenerationNotFoundError, 1),
    (429, "rate_limit_exceeded", errors.RateLimitError, 4),
    (429, "spend_limit_exceeded", errors.SpendLimitError, 1),
    (500, "internal_error", errors.InternalServerError, 4),
    (503, "upstream_error", errors.UpstreamError, 2),
]


@pytest.mark.parametrize(("status", "code", "expected", "sends"), ROWS)
@pytest.mark.parametrize("call", ["submit", "get", "credits"])
def test_an_error_answer_is_raised_as_its_row_after_its_number_of_sends(
    connect, call, status, code, expected, sends
):
    api = Api((status, {"error": {"code": code, "message": "m", "type": "t"}}, {"X-Request-Id": "req-7"}))
    arguments = {"submit": [REQUEST], "get": [ID], "credits": []}[call]
    if call == "submit" and status >= 500:
        sends = 1  # it may have been accepted all the same

    with pytest.raises(expected) as caught:
        getattr(connect(handler=api), call)(*arguments)

    assert (caught.value.status, caught.value.code, caught.value.request_id) == (status, code, "req-7")
    assert len(api.requests) == sends


PROVABLY_UNSENT = [httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError]
PERHAPS_SENT = [
    httpx.ReadError,
    httpx.ReadTimeout,
    httpx.WriteError,
    httpx.WriteTimeout,
    httpx.CloseError,
    httpx.RemoteProtocolError,
    httpx.DecodingError,
    httpx.TooManyRedirects,
]


@pytest.mark.parametrize("failure", PROVABLY_UNSENT)
def test_a_submit_that_never_left_is_sent_again(connect, failure):
    api = Api(failure("refused"), ACCEPTED)

    assert connect(handler=api).submit(REQUEST) == ID
    assert len(api.requests) == 2


@pytest.mark.parametrize("failure", PERHAPS_SENT)
def test_a_submit_that_may_have_left_is_never_sent_again(connect, failure):
    api = Api(failure("cut"), ACCEPTED)

    with pytest.raises(SubmissionUnknownError, match=f"{failure.__name__}: cut"):
        connect(handler=api).submit(REQUEST)

    assert len(api.requests) == 1


@pytest.mark.parametrize("failure", [*PROVABLY_UNSENT, *PERHAPS_SENT])
def test_a_read_is_sent_again_either_way(connect, failure):
    api = Api(failure("cut"), DONE)

    assert connect(handler=api).get(ID).finished
    assert len(api.requests) == 2


@pytest.mark.parametrize("failure", [*PROVABLY_UNSENT, *PERHAPS_SENT])
def test_an_image_is_fetched_again_either_way(connect, failure):
    api, into = Api(failure("cut"), (200, b"PNG")), io.BytesIO()

    connect(handler=api).download(URL, into)

    assert into.getvalue() == b"PNG"


def test_a_failure_without_words_is_still_named(connect):
    with pytest.raises(ConnectionFailedError, match="ReadTimeout: no details"):
        connect(handler=Api(httpx.ReadTimeout(""))).get(ID)


def test_a_failure_that_repeats_the_key_does_not_pass_it_on(connect, api_key):
    with pytest.raises(GptImageError) as caught:
        connect(handler=Api(httpx.ReadError(f"illegal line b'Bearer {api_key}'"))).get(ID)

    assert api_key not in caught.value.message
    assert api_key not in "".join(traceback.format_exception(caught.value))


def test_a_failure_is_told_in_a_few_words_however_long_the_nonsense(connect):
    with pytest.raises(GptImageError) as caught:
        connect(handler=Api(httpx.RemoteProtocolError("illegal line " + "x" * 60_000))).get(ID)

    assert len(caught.value.message) < 2000


# --- images -------------------------------------------------------------------------------------------------


def test_an_image_of_the_largest_size_is_taken_and_one_byte_more_is_not(connect):
    client = connect(handler=Api((200, b"x" * 1000), (200, b"x" * 1001)), max_image_bytes=1000)

    assert client.download(URL, io.BytesIO()).bytes == 1000
    with pytest.raises(ImageRefusedError, match="1,000") as caught:
        client.download(URL + "?sig=hunter2", io.BytesIO())

    assert "hunter2" not in caught.value.message


def test_the_page_of_an_error_is_not_written_into_the_file(connect):
    into = io.BytesIO()

    with pytest.raises(DownloadError):
        connect(handler=Api((500, b"<html>"))).download(URL, into)

    assert into.getvalue() == b""


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".com", "ü..b", "[v1.x]", "xn--.com"])
def test_an_image_on_a_host_that_can_not_exist_is_an_error_of_ours(connect, host):
    client = connect()

    with pytest.raises(DownloadError):
        client.download(f"https://{host}/1.png", io.BytesIO())


def test_an_id_that_can_be_none_is_an_error_of_ours_too_and_nothing_is_sent(connect):
    api = Api(DONE)

    with pytest.raises(GptImageError, match="not a generation id"):
        connect(handler=api).get("../credits")

    assert api.requests == []


# --- settings -----------------------------------------------------------------------------------------------


def test_a_client_is_made_from_settings_or_from_their_single_fields(connect, api_key):
    settings = ClientSettings(api_key=api_key, base_url="https://api.example.com", read_timeout=5)

    assert connect(settings).client.settings is settings
    assert connect(base_url="https://api.example.com", read_timeout=5).client.settings == settings


def test_settings_and_single_fields_at_once_are_refused(connect, api_key):
    settings = ClientSettings(api_key=api_key)

    for more in ({"api_key": api_key}, {"read_timeout": 5}):
        with pytest.raises(InvalidSettingsError, match="not both"):
            connect(settings, **more)


@pytest.mark.parametrize("api_key", [None, "", "secret"])
def test_without_a_key_there_is_no_client(connect, api_key):
    with pytest.raises(InvalidApiKeyError):
        connect(api_key=api_key)


def test_a_client_shows_no_key(connect, api_key):
    client = connect().client

    assert api_key not in repr(client) + str(client)


def test_a_client_retries_as_told(connect):
    api = Api((500, {"error": {"code": "internal_error"}}))

    with pytest.raises(errors.InternalServerError):
        connect(handler=api, retrying=Retrying(most_sends=2, first_pause=0.001)).get(ID)

    assert len(api.requests) == 2


# --- time ---------------------------------------------------------------------------------------------------


def test_an_answer_that_is_there_is_not_thrown_away_because_connecting_took_long(connect):
    def slow_to_connect(request):
        time.sleep(0.06)
        return httpx.Response(200, stream=httpx.ByteStream(json.dumps(ACCEPTED).encode()))

    client = connect(handler=slow_to_connect, connect_timeout=10, read_timeout=0.05)

    assert client.submit(REQUEST) == ID
