"""Callbacks, received by a real server."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.server
import json
import queue
import threading

import pytest


class Receiver:
    """Listens for callbacks; ``take`` gives the next body, or fails within seconds."""

    def __init__(self):
        self.bodies = queue.SimpleQueue()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                self.send_response(204)
                self.end_headers()
                receiver.bodies.put((self.headers, body))

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"

    def take(self, seconds=5.0):
        return self.bodies.get(timeout=seconds)

    def json(self):
        return json.loads(self.take()[1])


@pytest.fixture
def receiver():
    receiver = Receiver()
    thread = threading.Thread(target=receiver.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()
    thread.join()


@pytest.fixture
def outcomes(emulator, until):
    """The callbacks in the books, once there are so many."""

    def outcomes(number=1):
        until(lambda: len(emulator.books()["callbacks"]) >= number)
        return [callback["outcome"] for callback in emulator.books()["callbacks"]]

    return outcomes


@pytest.mark.parametrize("fault", [None, "generation:failed"])
def test_a_callback_carries_what_a_get_answers(receiver, completed, get, emulator, outcomes, fault):
    if fault:
        emulator.fault(fault)
    generation_id = completed(callback_url=receiver.url)

    headers, body = receiver.take()

    assert json.loads(body) == get(generation_id).json()
    assert headers["content-type"] == "application/json"
    assert outcomes() == ["sent"]
    assert emulator.books()["callbacks"][0] == {
        "task_id": generation_id,
        "url": receiver.url,
        "outcome": "sent",
        "status": 204,
    }


def test_a_callback_is_not_sent_before_the_end(receiver, submitted, clock):
    generation_id = submitted(callback_url=receiver.url)
    clock.advance(9.9)
    with pytest.raises(queue.Empty):
        receiver.take(0.1)

    clock.advance(0.1)

    assert receiver.json()["id"] == generation_id


@pytest.mark.parametrize(
    "url", ["https://example.com/hook", "http://192.168.0.1/", "http://127.0.0.1.example.com/"]
)
def test_only_this_machine_is_called(completed, outcomes, url):
    completed(callback_url=url)

    assert outcomes() == ["not sent: not loopback"]


def test_a_callback_that_nobody_takes_is_noted_and_not_repeated(receiver, completed, outcomes, emulator):
    receiver.server.shutdown()
    receiver.server.server_close()

    completed(callback_url=receiver.url)

    assert outcomes() == ["failed: ConnectError"]


def test_a_callback_can_be_left_out(receiver, completed, outcomes, emulator):
    emulator.fault("callback:none")

    completed(callback_url=receiver.url)

    assert outcomes() == ["not sent: fault callback:none"]
    assert receiver.bodies.empty()


def test_a_callback_can_come_twice(receiver, completed, outcomes, emulator):
    emulator.fault("callback:twice")

    completed(callback_url=receiver.url)

    assert receiver.json() == receiver.json()
    assert outcomes(2) == ["sent", "sent"]


@pytest.mark.parametrize("times", [0, 1, 5])
def test_a_callback_can_be_delivered_so_many_times(receiver, completed, outcomes, emulator, times):
    emulator.fault(f"callback:deliveries={times};match=cat")

    completed("a cat", callback_url=receiver.url)
    completed("a dog", callback_url=receiver.url)

    assert outcomes(times + 1) == ["sent"] * (times + 1)


def test_a_callback_can_come_early_too(receiver, submitted, clock, emulator):
    emulator.fault("callback:early=4")
    submitted(callback_url=receiver.url)

    clock.advance(6)
    assert receiver.json()["status"] == "processing"
    clock.advance(4)
    assert receiver.json()["status"] == "completed"


@pytest.mark.parametrize("fault", [None, "callback:forged"])
def test_a_callback_can_be_signed_and_the_signature_forged(receiver, completed, emulator, clock, fault):
    emulator.settings(webhook_secret="whsec")
    if fault:
        emulator.fault(fault)

    generation_id = completed(callback_url=receiver.url)

    headers, _ = receiver.take()
    timestamp = headers["x-webhook-timestamp"]
    right = hmac.digest(b"whsec", f"{generation_id}.{timestamp}".encode(), hashlib.sha256)
    assert int(timestamp) == int(clock())
    assert (headers["x-webhook-signature"] == base64.b64encode(right).decode()) is (fault is None)


def test_a_callback_can_be_late(receiver, completed, emulator):
    emulator.fault("callback:late=0.3;match=cat")

    late, early = completed("a cat", callback_url=receiver.url), completed("a dog", callback_url=receiver.url)

    assert [receiver.json()["id"], receiver.json()["id"]] == [early, late]


def test_a_callback_can_name_another_generation(receiver, completed, emulator):
    emulator.fault("callback:wrong_id")

    generation_id = completed(callback_url=receiver.url)

    assert receiver.json()["id"] != generation_id


def test_a_callback_can_be_broken(receiver, completed, emulator):
    emulator.fault("callback:broken_json")

    completed(callback_url=receiver.url)

    with pytest.raises(json.JSONDecodeError):
        receiver.json()


@pytest.mark.parametrize(
    ("fault", "said"), [("generation:failed", "completed"), ("generation:takes=1", "failed")]
)
def test_a_callback_can_lie(receiver, completed, get, emulator, fault, said):
    emulator.fault(fault)
    emulator.fault("callback:lie")

    generation_id = completed(callback_url=receiver.url)

    lie, truth = receiver.json(), get(generation_id).json()
    assert lie["id"] == truth["id"]
    assert lie["status"] == said != truth["status"]


def test_a_reset_sends_nothing_of_what_was_due(receiver, submitted, clock, emulator):
    submitted(callback_url=receiver.url)

    emulator.reset()
    clock.advance(100)

    with pytest.raises(queue.Empty):
        receiver.take(0.1)
