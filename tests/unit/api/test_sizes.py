from __future__ import annotations

import pytest

from airflow_gpt_image.api import sizes
from airflow_gpt_image.api.sizes import Size

# "Size & Resolution" of the API document, copied by hand and not from the code.
DOCUMENT = """
1:1 | 1024×1024 / 1254×1254 | 2048×2048 | 2880×2880 |
3:2 | 1536×1024 | 2048×1360 | 3520×2336 |
2:3 | 1024×1536 | 1360×2048 | 2336×3520 |
4:3 | 1024×768 | 2048×1536 | 3312×2480 |
3:4 | 768×1024 | 1536×2048 | 2480×3312 |
5:4 | 1280×1024 / 1448×1086 | 2560×2048 | 3216×2576 |
4:5 | 1024×1280 / 1122×1402 | 2048×2560 | 2576×3216 |
16:9 | 1536×864 / 1672×941 | 2048×1152 | 3840×2160 |
9:16 | 864×1536 / 941×1672 | 1152×2048 | 2160×3840 |
2:1 | 2048×1024 / 1774×887 | 2688×1344 | 3840×1920 |
1:2 | 1024×2048 / 887×1774 | 1344×2688 | 1920×3840 |
3:1 | 1881×836 / 1536×512 | 3072×1024 | 3840×1280 |
1:3 | 887×1774 / 512×1536 | 1024×3072 | 1280×3840 |
21:9 | 2016×864 / 1915×821 | 2688×1152 | 3840×1648 |
9:21 | 864×2016 / 821×1915 | 1152×2688 | 1648×3840 |
"""


def _cells():
    for line in DOCUMENT.strip().splitlines():
        ratio, *cells = (cell.strip() for cell in line.strip(" |").split("|"))
        for resolution, cell in zip(("1k", "2k", "4k"), cells, strict=True):
            numbers = [one.strip().split("×") for one in cell.split("/")]
            yield ratio, resolution, tuple((int(width), int(height)) for width, height in numbers)


CELLS = list(_cells())
PIXELS = sorted({(size, resolution) for _, resolution, found in CELLS for size in found})


def test_the_table_copied_here_has_15_ratios_and_3_tiers():
    assert len(CELLS) == 45


@pytest.mark.parametrize(("ratio", "resolution", "expected"), CELLS)
def test_a_ratio_and_a_tier_give_the_pixels_of_the_document(ratio, resolution, expected):
    found = sizes.sizes_of(ratio, resolution)

    assert found == expected


def test_the_ratios_are_the_documents_in_its_order():
    assert tuple(ratio for ratio, resolution, _ in CELLS if resolution == "1k") == sizes.RATIOS


def test_the_tiers_are_the_documents_and_1k_is_the_default():
    assert sizes.RESOLUTIONS == ("1k", "2k", "4k")
    assert sizes.DEFAULT_RESOLUTION == "1k"


@pytest.mark.parametrize("resolution", ["1k", "2k", "4k"])
def test_auto_is_treated_as_1_to_1(resolution):
    assert sizes.sizes_of("auto", resolution) == sizes.sizes_of("1:1", resolution)


@pytest.mark.parametrize(("pixels", "resolution"), PIXELS)
def test_every_pixel_size_belongs_to_the_one_tier_it_stands_under(pixels, resolution):
    tiers = {tier for _, tier, found in CELLS if pixels in found}

    assert tiers == {resolution}
    assert sizes.tier_of(Size(*pixels)) == resolution


@pytest.mark.parametrize(("pixels", "resolution"), PIXELS)
def test_a_pixel_size_is_its_own_answer(pixels, resolution):
    assert sizes.sizes_of(f"{pixels[0]}x{pixels[1]}", resolution) == (pixels,)


@pytest.mark.parametrize(("pixels", "resolution"), PIXELS)
def test_a_pixel_size_knows_the_ratios_it_stands_under(pixels, resolution):
    expected = tuple(ratio for ratio, _, found in CELLS if pixels in found)

    assert sizes.ratios_of(Size(*pixels)) == expected


def test_887x1774_stands_under_two_ratios():
    assert sizes.ratios_of(Size(887, 1774)) == ("1:2", "1:3")


def test_a_size_of_no_row_has_neither_tier_nor_ratio():
    assert sizes.tier_of(Size(1000, 1000)) is None
    assert sizes.ratios_of(Size(1000, 1000)) == ()


@pytest.mark.parametrize("aspect_ratio", ["1000x1000", "7:5", "", "1881×836"])
def test_what_is_not_in_the_table_has_no_sizes(aspect_ratio):
    with pytest.raises(KeyError):
        sizes.sizes_of(aspect_ratio, "1k")


def test_a_size_reads_as_the_api_writes_it():
    assert str(Size(1881, 836)) == "1881x836"
    assert sizes.parse_size("1881x836") == (1881, 836)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "16:9",
        "1881×836",
        "1881X836",
        "01881x836",
        "1881x836\n",
        " 1881x836",
        "0x1",
        "-1x5",
        "1e3x5",
        "١٨٨١x٨٣٦",
        "100000x1",
        "1881x836x3",
        "9" * 5000 + "x1",
    ],
)
def test_what_is_not_a_pixel_size_is_not_read_as_one(text):
    assert sizes.parse_size(text) is None
