"""The images that were asked for, drawn when they are, the latest kept."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from airflow_gpt_image.emulator.pictures import Picture, draw

_KEPT: Final = 64  # images; below 100 kB each, as they are drawn


class Gallery:
    """Draws in one thread of its own: fonts aren't made for several, and the API must go on answering."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Picture, str], bytes] = OrderedDict()
        self._studio = ThreadPoolExecutor(1, thread_name_prefix="gpt-image-emulator-draw")

    async def image(self, picture: Picture, form: str = "PNG") -> bytes:
        """The picture as a file of this format; see :func:`draw`."""
        wanted = (picture, form)
        image = self._kept.pop(wanted, None)
        if image is None:
            image = await asyncio.get_running_loop().run_in_executor(self._studio, draw, picture, form)
        self._kept[wanted] = image
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return image

    def close(self) -> None:
        """Draw nothing more. The one being drawn is waited for, some 50 ms."""
        self._studio.shutdown(cancel_futures=True)
