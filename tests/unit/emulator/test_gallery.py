"""Images are kept for a while, and drawn again without a difference."""

from __future__ import annotations

import asyncio

from airflow_gpt_image.api.sizes import Size
from airflow_gpt_image.emulator.gallery import Gallery
from airflow_gpt_image.emulator.pictures import Picture


def picture(number):
    return Picture(f"picture {number}", Size(64, 64), "1:1", "1k", 0, "397ce9f2")


def test_an_image_is_drawn_once_while_it_is_kept_and_is_not_kept_for_ever():
    gallery = Gallery()

    async def look():
        first = await gallery.image(picture(0))
        kept = await gallery.image(picture(0))
        for number in range(1, 65):
            await gallery.image(picture(number))
        return first, kept, await gallery.image(picture(0))

    first, kept, again = asyncio.run(look())
    gallery.close()

    assert kept is first
    assert again is not first
    assert again == first
