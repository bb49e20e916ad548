"""Serve the pages as the plugin does, with the strict policy, and remember what was asked for."""

from __future__ import annotations

import hashlib
import html
import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from airflow_gpt_image.plugins.images.page_files import STATIC, page_files
from tests.gallery import documents, sheets
from tests.gallery.documents import RUN
from tests.gallery.pictures import picture

PREFIX = "/gpt-image/"
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' https:; connect-src 'self'"

Make = Callable[[dict[str, str]], dict[str, Any]]


def _always(document: dict[str, Any]) -> Make:
    return lambda _query: document


def places() -> dict[str, Make]:
    """Return what makes the document of each place, by the place's path."""
    canned = {
        place: _always(document) for place, document in (documents.singles() | documents.papers()).items()
    }
    return canned | {
        f"task/shop_pictures/{RUN}/pictures/-1": sheets.batch,
        f"mapped/shop_pictures/{RUN}/image": sheets.mapped,
        f"run/shop_pictures/{RUN}": sheets.run,
        "dag/shop_pictures": sheets.dag,
        "asset/7": sheets.asset,
        "all": sheets.overview,
    }


@dataclass
class Gallery:
    """
    A running server.

    :param places: what is served; a test may put documents of its own in it.
    :param asked: method, path with query, and the conditional header of every request.
    :param script: what a page loads: all scripts as one, as the plugin serves them; or the first of them.
    :param frame: what Airflow's page around the frame is: attributes and style of its root element.
    """

    address: str
    places: dict[str, Make]
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    script: str = "static/images.js?v=1"
    frame: dict[str, str] = field(default_factory=lambda: {"class": "light", "style": ""})

    def page(self, place: str) -> str:
        return f"{self.address}{PREFIX}{place}"

    def framed(self, place: str) -> str:
        """Return the address of a page like Airflow's that has a place in a frame."""
        return f"{self.address}/dags/frame?{place}"

    def data_requests(self) -> list[tuple[str, str | None]]:
        return [(path, known) for path, known in self.asked if path.startswith(f"{PREFIX}data/")]


class _Handler(BaseHTTPRequestHandler):
    gallery: Gallery
    protocol_version = "HTTP/1.1"

    def log_message(self, *_args: object) -> None:
        pass

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.gallery.asked.append((self.path, self.headers.get("If-None-Match")))
        if not url.path.startswith(PREFIX):
            self._airflow(url.query)
            return
        path = unquote(url.path[len(PREFIX) :])
        query = dict(parse_qsl(url.query))
        room, _, rest = path.partition("/")
        if room == "static":
            self._static(rest)
        elif room == "image":
            self._image(rest, query)
        elif room == "file":
            self._send(b"sku\n", "application/octet-stream", {"Content-Disposition": "attachment"})
        elif room == "data":
            self._data(rest, query)
        else:
            self._page(path, query)

    def _static(self, name: str) -> None:
        folder, _, script = name.rpartition("/")
        if folder == "scripts":
            self._send(STATIC.joinpath(name).read_bytes(), "text/javascript")
        else:
            self._send(*page_files()[script])

    def _document(self, place: str, query: dict[str, str]) -> dict[str, Any] | None:
        place, _, key = place.partition("/tile/")
        make = self.gallery.places.get(place)
        if make is None:
            return None
        if key:
            tiles = {tile["key"]: tile for tile in make(query).get("tiles", [])}
            return sheets.tile_picture(key) or (documents.picture() | tiles[key] if key in tiles else None)
        return make(query)

    def _page(self, place: str, query: dict[str, str]) -> None:
        document = self._document(place, query)
        if document is None:
            self._send(b"no such page", "text/plain", status=HTTPStatus.NOT_FOUND)
            return
        texts = {
            "title": html.escape(document["title"]),
            "images_css": f"{PREFIX}static/images.css?v=1",
            "images_js": PREFIX + self.gallery.script,
            "document": json.dumps(document).replace("<", "\\u003c"),
        }
        page = (STATIC / "page.html").read_text(encoding="utf-8")
        for name, text in texts.items():
            page = page.replace("{{" + name + "}}", text)
        self._send(page.encode(), "text/html; charset=utf-8", {"Content-Security-Policy": POLICY})

    def _data(self, place: str, query: dict[str, str]) -> None:
        document = self._document(place, query)
        if document is None:
            self._send(b"no such place", "text/plain", status=HTTPStatus.NOT_FOUND)
            return
        lasting = json.dumps({name: value for name, value in document.items() if name != "updated"})
        tag = f'"{hashlib.sha256(lasting.encode()).hexdigest()[:16]}"'
        if self.headers.get("If-None-Match") == tag:
            self._send(b"", "application/json", {"ETag": tag}, HTTPStatus.NOT_MODIFIED)
        else:
            self._send(json.dumps(document).encode(), "application/json", {"ETag": tag})

    def _image(self, path: str, query: dict[str, str]) -> None:
        seed, width, height = (int(number) for number in path.split("/")[1].split("x"))
        if seed == 404:
            self._send(b"The file is gone.", "text/plain; charset=utf-8", status=HTTPStatus.NOT_FOUND)
            return
        size = query.get("size", "full")
        if size != "full":
            scale = int(size) / max(width, height)
            width, height = round(width * scale), round(height * scale)
        more = {"Content-Disposition": 'attachment; filename="picture.webp"'} if query.get("download") else {}
        self._send(picture(seed, width, height), "image/webp", more)

    def _airflow(self, place: str) -> None:
        root = "".join(f' {name}="{html.escape(value)}"' for name, value in self.gallery.frame.items())
        source = html.escape(PREFIX + place)
        sandbox = "allow-scripts allow-same-origin allow-forms allow-downloads"
        frame = (
            f'<iframe src="{source}" sandbox="{sandbox}" style="border:0;width:100%;height:100%"></iframe>'
        )
        page = f'<!doctype html><html{root}><body style="margin:0;height:100vh">{frame}</body></html>'
        self._send(page.encode(), "text/html; charset=utf-8")

    def _send(
        self,
        body: bytes,
        content_type: str,
        headers: dict[str, str] | None = None,
        status: HTTPStatus = HTTPStatus.OK,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("X-Content-Type-Options", "nosniff")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # A page asks for some hundred pictures at once; socketserver lets five wait.
    request_queue_size = 256

    def handle_error(self, *_args: object) -> None:
        """Say nothing of a browser that goes away in the middle of a request."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(*_args)  # type: ignore[arg-type]


@contextmanager
def gallery() -> Iterator[Gallery]:
    """Serve the pages on a port of this machine."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        made = Gallery(f"http://127.0.0.1:{server.server_port}", places())
        server.RequestHandlerClass = type("Handler", (_Handler,), {"gallery": made})
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()
