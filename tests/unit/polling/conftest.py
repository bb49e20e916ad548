"""What the poller's tests share: an API that is a function, over a transport of httpx's."""

from __future__ import annotations

import json

import httpx
import pytest

from airflow_gpt_image.api.client import AsyncGptImageClient
from airflow_gpt_image.api.retrying import Retrying


def _response(status, document, **headers):
    async def body():
        yield json.dumps(document).encode()

    return httpx.Response(status, content=body(), headers=headers)


def answer(request, status="completed"):
    """The response to a poll: the generation is in that status."""
    generation_id = request.url.path.rpartition("/")[2]
    return _response(200, {"id": generation_id, "status": status, "output": {"urls": ["https://h/1.png"]}})


def refusal(status, code, **headers):
    """The API's refusal of a poll."""
    error = {"code": code, "message": "as it says", "type": "t"}
    return _response(status, {"error": error}, **headers)


@pytest.fixture
def client():
    """Builds a client of an API that a function is."""

    def build(handler, **options):
        async def respond(request):
            return handler(request)

        options = {"api_key": "sk-live-key", "base_url": "http://127.0.0.1:1", **options}
        retrying = Retrying(most_sends=1)
        return AsyncGptImageClient(retrying=retrying, transport=httpx.MockTransport(respond), **options)

    return build
