"""Images of any size are stored in little memory, also many at a time."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from airflow_gpt_image.api.models import ImageRequest

_STORING_IN_A_PROCESS = """
    import sys, threading, tracemalloc
    from airflow_gpt_image.api.client import GptImageClient
    from airflow_gpt_image.api.models import Generation
    from airflow_gpt_image.storage.folders import open_folder
    from airflow_gpt_image.storage.images import ImageFolder

    class Silence:
        info = warning = lambda *_: None

    def store(number):
        generation = Generation(id=f"a{number}", status="completed", output={"urls": [image]})
        with GptImageClient(api_key=key, base_url=url) as client:
            ImageFolder(open_folder(folder)).fetch_all(client, generation, [f"a{number}-0"], None, Silence())

    url, key, folder, image, at_once = sys.argv[1:]
    open_folder(folder).write("warm.txt", b"what is imported on the way is none of an image's")
    tracemalloc.start()
    threads = [threading.Thread(target=store, args=(number,)) for number in range(int(at_once))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(tracemalloc.get_traced_memory()[1])
"""


def _peak(emulator, place, url, at_once):
    arguments = [emulator.url, emulator.key, place.destination, url, str(at_once)]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_STORING_IN_A_PROCESS), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout.splitlines()[-1])


def test_memory_stays_flat_for_an_image_of_40_mb(emulator, made, place):
    generation = made(ImageRequest(prompt="a castle", resolution="4k"))
    emulator.fault("file:huge=40")

    peak = _peak(emulator, place, generation.urls[0], at_once=1)

    [image] = [name for name in place.names() if name.endswith(".png")]
    assert len(place.read(image)) > 40_000_000
    assert peak < 20_000_000


@pytest.mark.parametrize("place", ["disk", pytest.param("bucket", marks=pytest.mark.soak)], indirect=True)
def test_memory_stays_flat_for_16_images_of_40_mb_at_a_time(emulator, made, place):
    generation = made(ImageRequest(prompt="a castle", resolution="4k"))
    emulator.fault("file:huge=40")

    peak = _peak(emulator, place, generation.urls[0], at_once=16)

    images = [name for name in place.names() if name.endswith(".png")]
    assert len(images) == 16
    assert min(len(place.read(name)) for name in images) > 40_000_000
    print(f"peak: {peak / 1e6:.1f} MB for 16 at a time")
    assert peak < 16 * 20_000_000
