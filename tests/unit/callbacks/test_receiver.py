"""The one address without a login: what it takes, what it refuses, and that nothing holds it up."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import threading
import time

import pytest

from airflow_gpt_image.plugins.callbacks.receiver import Limits
from tests.unit.callbacks.conftest import OURS

BODY = {"id": "397ce9f2-c04e-4244-ac33-3af19a7cc297", "status": "completed", "model": "gpt-image-2"}


def test_a_callback_is_handed_on_with_the_id_it_tells(receiver):
    answer = receiver.post(json=BODY)

    assert (answer.status_code, answer.content) == (204, b"")
    assert receiver.handed_on == [(OURS, BODY["id"])]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'"an-id"',
        b'{"id": null}',
        b'{"id": "../../v1/credits"}',
        b'{"id": ["an-id"]}',
        b'{"id": 1' + b"0" * 10_000 + b"}",
        b"[" * 30_000,
        b'{"taskId": "an-id"}',
    ],
    ids=lambda body: repr(body[:20]),
)
def test_a_body_that_tells_no_id_is_a_callback_all_the_same(receiver, body):
    assert receiver.post(content=body).status_code == 204
    assert receiver.handed_on == [(OURS, None)]


def test_the_order_of_keys_and_unknown_ones_mean_nothing(receiver):
    told = dict(reversed({**BODY, "later": {"id": "x"}}.items()))

    receiver.post(content=json.dumps(told))

    assert receiver.handed_on == [(OURS, BODY["id"])]


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_nothing_but_a_post_is_taken(receiver, method):
    answer = receiver.client.request(method, receiver.path())

    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert receiver.handed_on == []


def test_whatever_is_no_address_of_ours_is_not_found_whatever_the_method(receiver):
    valid = receiver.path()
    prefix, _, token = valid.rpartition("/")
    wrong = [
        "/",
        f"{prefix}/",
        f"{valid}/",
        f"{valid}x",
        f"{prefix}/x/{token}",
        f"/other/{token}",
        f"{prefix}/{token[:-2]}AA",
        f"{prefix}/{'1' * 60_000}",
        receiver.path(timeout=0, now=time.time() - 24 * 3600 - 1),
    ]

    for path in wrong:
        for method in ("POST", "GET"):
            answer = receiver.client.request(method, path)
            assert (path[:80], answer.status_code) == (path[:80], 404)
            # Airflow itself answers what is elsewhere.
            assert answer.content == b"" or not path.startswith(prefix)
    assert receiver.handed_on == []


def test_where_callbacks_are_off_there_is_nothing(receiving):
    receiver = receiving(on=False)

    assert receiver.post(json=BODY).status_code == 404
    assert receiver.handed_on == []


# Bounds


def test_every_request_is_answered_within_a_second():
    limits = Limits()

    assert limits.body_seconds < limits.answer_seconds < 1


@pytest.mark.parametrize("told", [True, False], ids=["length told", "length not told"])
def test_a_body_that_is_too_large_is_refused(receiver, told):
    body = b"x" * (64 * 1024 + 1)

    answer = receiver.post(content=body if told else iter([body[:40_000], body[40_000:]]))

    assert answer.status_code == 413
    assert receiver.handed_on == []


def test_a_body_that_is_said_to_be_endless_is_refused_before_it_comes(receiver):
    head = f"POST {receiver.path()} HTTP/1.1\r\nhost: x\r\ncontent-length: {10**15}\r\n\r\n"

    assert raw(receiver, head.encode()).startswith(b"HTTP/1.1 413")


def test_a_body_that_does_not_come_is_not_waited_for(receiver):
    head = f"POST {receiver.path()} HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n12345"

    assert raw(receiver, head.encode()).startswith(b"HTTP/1.1 408")
    assert receiver.handed_on == []


def test_a_body_that_drips_is_not_waited_for(receiver):
    head = f"POST {receiver.path()} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"

    with socket.create_connection(("127.0.0.1", receiver.port), timeout=30) as connection:
        connection.sendall(head.encode())
        stopped = threading.Event()

        def drip():
            while not stopped.wait(0.05):
                try:
                    connection.sendall(b"1\r\nx\r\n")
                except OSError:
                    return

        dripping = threading.Thread(target=drip)
        dripping.start()
        answer = connection.recv(65_536)
        stopped.set()
        dripping.join()

    assert answer.startswith(b"HTTP/1.1 408")


def test_a_caller_that_leaves_in_the_middle_is_no_callback(receiver):
    head = f"POST {receiver.path()} HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n12345"
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=30) as connection:
        connection.sendall(head.encode())

    assert receiver.post(json=BODY).status_code == 204
    assert receiver.handed_on == [(OURS, BODY["id"])]


def raw(receiver, data):
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=30) as connection:
        connection.sendall(data)
        return connection.recv(65_536)


# The database


def test_a_database_that_takes_long_holds_no_caller_up(receiving):
    receiver = receiving(limits=Limits(answer_seconds=0.05))
    released = threading.Event()
    receiver.handle = lambda callback, generation_id: released.wait(60)

    first = receiver.post(json=BODY)
    released.set()

    assert first.status_code == 202


def test_a_database_that_is_away_is_told_so_that_the_callback_comes_again(receiver):
    def fail(callback, generation_id):
        raise ConnectionError("the database is away")

    receiver.handle = fail
    first = receiver.post(json=BODY)
    receiver.handle = lambda callback, generation_id: "woken"

    assert (first.status_code, receiver.post(json=BODY).status_code) == (503, 204)


def test_a_flood_is_told_to_come_again_and_the_rest_is_carried_out(receiving):
    receiver = receiving(limits=Limits(answer_seconds=0.05, threads=1, waiting=3))
    released = threading.Event()
    receiver.handle = lambda callback, generation_id: released.wait(60)

    answers = [receiver.post(json=BODY) for _ in range(5)]
    released.set()

    assert [answer.status_code for answer in answers] == [202, 202, 202, 503, 503]
    assert answers[-1].headers["retry-after"] == "5"
    give_up_at = time.monotonic() + 30
    while receiver.post(json=BODY).status_code != 204:
        assert time.monotonic() < give_up_at
    assert len(receiver.handed_on) >= 4


# The vendor's signature


def signed(generation_id, timestamp, secret=b"whsec"):
    digest = hmac.digest(secret, f"{generation_id}.{timestamp}".encode(), hashlib.sha256)
    return {
        "X-Webhook-Timestamp": str(timestamp),
        "X-Webhook-Signature": base64.b64encode(digest).decode(),
    }


def test_a_callback_that_the_vendor_did_not_sign_is_not_found(receiving):
    receiver = receiving(vendor_secret=b"whsec")
    now = int(time.time())

    assert receiver.post(json=BODY).status_code == 404
    assert receiver.post(json=BODY, headers=signed(BODY["id"], now, b"another")).status_code == 404
    assert receiver.post(json={"id": "other"}, headers=signed(BODY["id"], now)).status_code == 404
    assert receiver.post(json=BODY, headers=signed(BODY["id"], now - 3600)).status_code == 404
    assert receiver.handed_on == []
    assert receiver.post(json=BODY, headers=signed(BODY["id"], now)).status_code == 204
    assert receiver.handed_on == [(OURS, BODY["id"])]


# The plugin


def test_airflow_mounts_the_receiver_where_addresses_lead():
    from airflow import plugins_manager

    from airflow_gpt_image.callbacks import PREFIX

    apps, _ = plugins_manager.get_fastapi_plugins()

    assert PREFIX in [app["url_prefix"] for app in apps]
