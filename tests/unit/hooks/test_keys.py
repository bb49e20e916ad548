"""A password that can't be a key, and what people do instead of putting the key there."""

from __future__ import annotations

import pytest

from airflow_gpt_image.errors import InvalidApiKeyError
from tests.unit.hooks.test_gpt_image import refusal


@pytest.mark.parametrize(
    "password", [None, "", "hunter2-is-secret", "sk-", "sk-with space", "Bearer sk-hunter2"]
)
def test_a_password_that_cannot_be_a_key_is_refused_unseen(connection, settings_of, password):
    hook = connection(password=password)

    message = refusal(settings_of, hook, InvalidApiKeyError)

    assert "Connection 'gpt_image_default'" in message
    assert "must start with 'sk-'" in message
    assert "hunter2" not in message


@pytest.mark.parametrize(
    ("fields", "fault", "remedy"),
    [
        ({"password": ""}, "is empty", "Put the key into the connection's password (API Key)."),
        ({"password": "Bearer sk-hunter2"}, "begins with 'Bearer'", "Leave that word out: it is put before"),
        ({"password": "'sk-hunter2'"}, "stands in quotation marks", "Leave them out."),
        ({"password": "“sk-hunter2”"}, "stands in quotation marks", "Leave them out."),
        ({"password": "hunter2"}, "can't be one", "Give the key as the API's dashboard shows it"),
    ],
)
def test_each_mistake_with_the_key_has_a_sentence_of_its_own(connection, settings_of, fields, fault, remedy):
    lines = refusal(settings_of, connection(**fields), InvalidApiKeyError).splitlines()

    assert lines[0] == f"Connection 'gpt_image_default': The API key {fault}. Nothing was sent."
    assert lines[1] == "A key must start with 'sk-' and hold no white space."
    assert lines[2].startswith(remedy)
    assert "hunter2" not in "".join(lines)


def test_a_key_in_login_is_told_where_it_belongs_and_not_shown(connection, settings_of):
    message = refusal(settings_of, connection(password="", login="sk-hunter2"), InvalidApiKeyError)

    assert message.splitlines() == [
        "Connection 'gpt_image_default': The API key is empty, and Login isn't. Nothing was sent.",
        "The key is the connection's password, which Airflow keeps encrypted.",
        "Move it from Login to Password (API Key).",
    ]


@pytest.mark.parametrize("password", ["", "sk-the-right-one"])
@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"host": "sk-hunter2"}, "Host"),
        ({"host": "https://sk-hunter2"}, "Host"),
        ({"host": "api.aivideoapi.ai", "schema": "Bearer sk-hunter2"}, "Schema"),
        ({"extra": {"api_key": "sk-hunter2"}}, "Extra"),
        ({"extra": {"proxy": "'sk-hunter2'"}}, "Extra"),
        ({"extra": {"sk-hunter2": "api_key"}}, "Extra"),
    ],
    ids=str,
)
def test_a_key_in_another_field_is_told_where_it_belongs_and_sent_nowhere(
    connection, settings_of, fields, place, password
):
    message = refusal(settings_of, connection(password=password, **fields), InvalidApiKeyError)

    assert message.splitlines() == [
        f"Connection 'gpt_image_default': the API key stands in {place}. Nothing was sent.",
        "The key is the connection's password, which Airflow keeps encrypted.",
        f"Move it from {place} to Password (API Key).",
    ]


def test_a_host_whose_name_begins_like_a_key_is_a_host(connection, settings_of):
    assert settings_of(connection(host="sk-gateway.example.com")).base_url == "https://sk-gateway.example.com"


def test_a_login_beside_a_key_does_not_matter(connection, settings_of, api_key):
    assert settings_of(connection(login="me")).api_key == api_key


@pytest.mark.parametrize(
    ("host", "port", "told"),
    [
        (
            "http://127.0.0.1:8787",
            8788,
            [
                "Connection 'gpt_image_default': Host names the port 8787, and Port is 8788.",
                "One of them is wrong, and nothing was sent.",
                "Give the port once, or the same one twice.",
            ],
        ),
        (
            "",
            8443,
            [
                "Connection 'gpt_image_default': Port is 8443, and Base URL is empty. Nothing was sent.",
                "A port belongs to a host; without one the API itself is asked, on its port 443.",
                "Fill in the Base URL, or give Port 443.",
            ],
        ),
    ],
    ids=["another than the host's", "without a host"],
)
def test_a_port_that_makes_no_sense_beside_the_host_is_refused(connection, settings_of, host, port, told):
    assert refusal(settings_of, connection(host=host, port=port)).splitlines() == told


@pytest.mark.parametrize("port", [None, 0, 443])
def test_the_apis_own_port_needs_no_host(connection, settings_of, port):
    assert settings_of(connection(host="", port=port)).base_url == "https://api.aivideoapi.ai"
