"""A server on a real socket that says, byte by byte, what a test tells it."""

from __future__ import annotations

import contextlib
import socket
import threading


def read_request(connection):
    """One HTTP request as it came, head and body."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _some(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    while len(body) < length:
        body += _some(connection)
    return head + b"\r\n\r\n" + body


def _some(connection):
    data = connection.recv(65536)
    if not data:
        raise ConnectionError("the client hung up")
    return data


def http(status, body=b"", **headers):
    """An HTTP answer as bytes; the connection is closed after it."""
    lines = [f"HTTP/1.1 {status} Said", f"content-length: {len(body)}", "connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


class RawServer:
    """A server of this machine that does on every connection what a test tells it; it keeps the requests.

    ``behave`` gets the connection and this server. ``done`` is set when the test is over: waiting for it is
    how a server keeps silent.
    """

    def __init__(self, behave, tls=None):
        self.requests, self.connections, self._open = [], 0, []
        self.done = threading.Event()
        self._behave, self._tls = behave, tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def ask(self, connection):
        """Read one request and keep it."""
        self.requests.append(read_request(connection))
        return self.requests[-1]

    def close(self):
        self.done.set()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        # Closing alone doesn't wake a thread that waits in accept().
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            thread = threading.Thread(target=self._talk, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _talk(self, connection):
        with connection, contextlib.suppress(OSError):
            connection.settimeout(10)
            if self._tls is None:
                self._behave(connection, self)
            else:
                with self._tls.wrap_socket(connection, server_side=True) as secured:
                    self._behave(secured, self)
