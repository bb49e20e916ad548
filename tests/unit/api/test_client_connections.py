"""Both clients against servers on real sockets that keep connections: which call goes over which one."""

from __future__ import annotations

import io
import json
import socket
import time

from airflow_gpt_image.api.models import ImageRequest

ID = "397ce9f2-c04e-4244-ac33-3af19a7cc297"
REQUEST = ImageRequest(prompt="a red bicycle")
ACCEPTED = json.dumps({"code": 200, "msg": "success", "data": {"taskId": ID}}).encode()
DONE = json.dumps({"id": ID, "status": "completed", "output": {"urls": ["https://h/"]}}).encode()
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"


def test_a_connection_that_the_server_has_closed_is_not_used_for_the_next_submit(reach, serve):
    def answer_once(connection, server):
        server.ask(connection)
        connection.sendall(HEAD % len(ACCEPTED) + ACCEPTED)
        connection.shutdown(socket.SHUT_RDWR)
        server.closed = True

    server = serve(answer_once)
    server.closed = False
    client = reach(base_url=server.url)

    for _ in range(3):
        assert client.submit(REQUEST) == ID
        until = time.monotonic() + 5
        while not server.closed and time.monotonic() < until:
            time.sleep(0.001)
        server.closed = False

    assert server.connections == 3


def test_a_connection_is_used_again_for_the_next_call(reach, serve):
    def keep(connection, server):
        while True:
            server.ask(connection)
            connection.sendall(HEAD % len(DONE) + DONE)

    server = serve(keep)
    client = reach(base_url=server.url)

    for _ in range(3):
        client.get(ID)

    assert (server.connections, len(server.requests)) == (1, 3)


def test_images_of_one_host_come_over_one_connection(reach, serve):
    def keep(connection, server):
        while True:
            server.ask(connection)
            connection.sendall(HEAD % 3 + b"PNG")

    server = serve(keep)
    client, into = reach(base_url=server.url), io.BytesIO()

    for _ in range(3):
        client.download(f"{server.url}/1.png", into)

    assert into.getvalue() == b"PNG" * 3
    assert (server.connections, len(server.requests)) == (1, 3)


def test_an_image_whose_kept_connection_is_closed_meanwhile_is_asked_for_on_another_one(reach, serve):
    def hang_up_when_asked_again(connection, server):
        server.ask(connection)
        connection.sendall(HEAD % 3 + b"PNG")
        server.ask(connection)

    server = serve(hang_up_when_asked_again)
    client, into = reach(base_url=server.url), io.BytesIO()

    for _ in range(3):
        client.download(f"{server.url}/1.png", into)

    assert into.getvalue() == b"PNG" * 3
    assert server.connections == 3


def test_what_a_server_says_late_on_a_reads_connection_is_not_taken_for_a_submits_answer(reach, serve):
    late = json.dumps({"code": 200, "data": {"taskId": "the-late-one"}}).encode()

    def answer_reads_twice(connection, server):
        while True:
            if server.ask(connection).startswith(b"POST"):
                connection.sendall(HEAD % len(ACCEPTED) + ACCEPTED)
            else:
                connection.sendall(HEAD % len(DONE) + DONE + HEAD % len(late) + late)

    client = reach(base_url=serve(answer_reads_twice).url)

    assert client.get(ID).finished
    assert client.submit(REQUEST) == ID


def test_a_submit_and_a_read_never_share_a_connection_and_each_keeps_its_own(reach, serve):
    methods = []

    def keep(connection, server):
        mine = []
        methods.append(mine)
        while True:
            method = server.ask(connection).partition(b" ")[0]
            mine.append(method)
            body = ACCEPTED if method == b"POST" else DONE
            connection.sendall(HEAD % len(body) + body)

    client = reach(base_url=serve(keep).url)

    for _ in range(3):
        client.get(ID)
        client.submit(REQUEST)

    assert sorted(methods) == [[b"GET"] * 3, [b"POST"] * 3]
