"""A submit is sent again only after proof that nothing was accepted, over all courses it can take."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_gpt_image.api import flows, protocol
from airflow_gpt_image.api.client import AsyncGptImageClient, GptImageClient
from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.api.replies import NoResponse
from airflow_gpt_image.api.retrying import Retrying
from airflow_gpt_image.api.steps import Send
from airflow_gpt_image.errors import (
    GptImageError,
)

KEY = "sk-live-0123456789abcdef"
ID = "397ce9f2-c04e-4244-ac33-3af19a7cc297"
REQUEST = ImageRequest(prompt="x")


def _answer(status, body, **headers):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return protocol.parse_response(status=status, headers=headers, body=raw, at=0.0, api_key=KEY)


def _refusal(status, code):
    return _answer(status, {"error": {"code": code, "message": "m", "type": "t"}})


# Nothing was accepted: these alone may be followed by another send.
PROOF_OF_NOTHING = [
    NoResponse(sent=False, reason="ConnectError: refused", at=0.0),
    _refusal(429, "rate_limit_exceeded"),
    _answer(429, {"error": {"code": "rate_limit_exceeded"}}, **{"retry-after": "3"}),
]
REFUSED_FOR_GOOD = [
    _refusal(400, "invalid_request"),
    _refusal(402, "insufficient_credits"),
    # Not accepted by our reading only, so not sent again either.
    _refusal(500, "internal_error"),
    _refusal(503, "upstream_error"),
]
ACCEPTED = [_answer(200, {"code": 200, "msg": "success", "data": {"taskId": ID}})]
no_proof = st.one_of(
    st.just(NoResponse(sent=True, reason="ReadTimeout", at=0.0)),
    st.builds(
        _answer,
        st.sampled_from([200, 201, 202, 204, 302, 307, 401, 404, 413, 429, 500, 502, 503, 504]),
        st.one_of(
            st.binary(max_size=30),
            st.just(b"<html>"),
            st.just({}),
            st.just({"message": "try again"}),
            st.just({"data": {"task_id": ID}}),
            st.just({"error": "busy"}),
            st.just({"error": {"code": "504", "type": "timeout"}}),
            st.just({"error": {"type": "rate_limit_error"}}),
            st.just({"code": 504, "msg": "timeout"}),
        ),
    ),
    st.builds(
        _answer, st.just(200), st.sampled_from([{"code": 0, "msg": "ok"}, {"code": 201}, {"code": 202}])
    ),
    st.builds(
        _answer,
        st.sampled_from([200, 400, 429, 500, 503]),
        st.sampled_from(
            [
                {"error": {"code": "internal_error"}, "data": {"taskId": ID}},
                {"code": 500, "data": {"taskId": ID}},
                {"error": {"code": "rate_limit_exceeded"}, "code": 200, "data": {"taskId": ID}},
            ]
        ),
    ),
)
courses = st.lists(
    st.one_of(
        st.sampled_from(PROOF_OF_NOTHING),
        no_proof,
        st.sampled_from(REFUSED_FOR_GOOD),
        st.sampled_from(ACCEPTED),
    ),
    min_size=8,
    max_size=8,
)


@settings(max_examples=400)
@given(courses, st.integers(1, 6))
def test_a_submit_is_sent_again_only_after_proof_that_nothing_was_accepted(course, most_sends):
    seen = []

    with pytest.raises((StopIteration, GptImageError)):
        _walk(flows.submit(REQUEST, Retrying(most_sends=most_sends)), course, seen)

    assert all(reply in PROOF_OF_NOTHING for reply in seen[:-1])
    assert len(seen) <= most_sends


def _walk(flow, course, seen):
    """Give a flow these replies until it ends; ``seen`` are those it asked for."""
    came = None
    while True:
        step = flow.send(came)
        came = 0.0
        if isinstance(step, Send):
            came = course[len(seen)]
            seen.append(came)


junk_headers = st.dictionaries(
    st.sampled_from(
        [
            b"location",
            b"retry-after",
            b"set-cookie",
            b"content-encoding",
            b"x-request-id",
            b"transfer-encoding",
        ]
    ),
    st.one_of(
        st.binary(max_size=30).map(lambda text: text.replace(b"\r", b"").replace(b"\n", b"")),
        st.sampled_from(
            [
                b"mailto:x",
                b"//[",
                b"https://xn--.example/",
                b"http:x",
                b"gzip",
                b"deflate",
                b"identity",
                b"a=b; Max-Age=x",
                KEY.encode(),
                b"https://evil.example/" + KEY.encode(),
                b"https://[::1",
            ]
        ),
    ),
)


@pytest.mark.parametrize("kind", [GptImageClient, AsyncGptImageClient])
@settings(max_examples=150)
@given(
    st.sampled_from([200, 201, 204, 301, 302, 303, 307, 308, 400, 500, 502, 503]),
    junk_headers,
    st.binary(max_size=40),
)
def test_whatever_a_server_says_one_submit_is_one_post_and_an_error_of_ours(kind, status, headers, body):
    posts = []

    def say(request):
        posts.append(request)
        return httpx.Response(status, headers=list(headers.items()), stream=httpx.ByteStream(body))

    with pytest.raises(GptImageError) as caught:
        _submit(kind, httpx.MockTransport(say))

    assert len(posts) == 1
    assert KEY not in str(caught.value) + repr(vars(caught.value))
    assert str(caught.value).encode()


def _submit(kind, transport):
    client = kind(api_key=KEY, transport=transport, retrying=Retrying(first_pause=0.001))
    if kind is GptImageClient:
        with client:
            return client.submit(REQUEST)

    async def submitted():
        async with client:
            return await client.submit(REQUEST)

    return asyncio.run(submitted())
