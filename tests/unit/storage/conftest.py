"""A client of the emulator, and images it made, for the rooms that store them."""

from __future__ import annotations

import contextlib

import pytest

from airflow_gpt_image.api.client import GptImageClient
from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.api.retrying import Retrying
from airflow_gpt_image.api.settings import ClientSettings


@pytest.fixture
def emulator(gpt_image_emulator):
    return gpt_image_emulator


@pytest.fixture
def connect(emulator):
    """Opens a client of the emulator that doesn't pause for long between its tries."""
    with contextlib.ExitStack() as stack:

        def opened(**settings):
            given = ClientSettings(api_key=emulator.key, base_url=emulator.url, **settings)
            return stack.enter_context(GptImageClient(given, retrying=Retrying(first_pause=0.001)))

        yield opened


@pytest.fixture
def client(connect):
    return connect()


@pytest.fixture
def made(client):
    """Has an image made; the completed generation."""

    def made(request=ImageRequest(prompt="a red bicycle")):
        return client.generate(request, poll_interval=0.03)

    return made
