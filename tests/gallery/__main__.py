"""Serve the pages to whoever works on them: python -m tests.gallery prints their addresses."""

from __future__ import annotations

import contextlib
import threading

from tests.gallery.server import gallery

with gallery() as served:
    print(*(served.page(place) for place in served.places), sep="\n", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()
