"""Over all requests there are."""

from __future__ import annotations

import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_gpt_image.api import pricing, protocol, sizes
from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.api.settings import ClientSettings
from airflow_gpt_image.errors import GptImageError, InvalidRequestError

RATIOS = [
    "1:1",
    "3:2",
    "2:3",
    "4:3",
    "3:4",
    "5:4",
    "4:5",
    "16:9",
    "9:16",
    "2:1",
    "1:2",
    "3:1",
    "1:3",
    "21:9",
    "9:21",
]
TIERS = ["1k", "2k", "4k"]
PIXELS = sorted({str(size) for tiers in sizes.SIZES.values() for found in tiers.values() for size in found})

prompts = st.text(min_size=1, max_size=200).filter(lambda text: bool(text.strip()))
names = st.text("abcdefghijklmnopqrstuvwxyz0123456789-._~%/", max_size=30)
addresses = st.builds(
    "{}://{}.example.com/{}{}".format,
    st.sampled_from(["http", "https", "HTTPS"]),
    st.sampled_from(["a", "files", "xn--bcher-kva"]),
    names,
    st.sampled_from(["", "?a=b&c=d", "#part"]),
)
looks = st.one_of(
    st.fixed_dictionaries(
        {"aspect_ratio": st.sampled_from(["auto", *RATIOS])},
        optional={"resolution": st.sampled_from([*TIERS, None])},
    ),
    st.fixed_dictionaries({"aspect_ratio": st.sampled_from(PIXELS)}),
)


@st.composite
def valid_fields(draw):
    fields = dict(draw(looks))
    images = draw(st.lists(addresses, max_size=16))
    if images or draw(st.booleans()):
        fields["image_urls"] = images
    if not images or draw(st.booleans()):
        fields["prompt"] = draw(prompts)
    fields |= draw(
        st.fixed_dictionaries(
            {}, optional={"nsfw_checker": st.booleans(), "callback_url": st.none() | addresses}
        )
    )
    return fields


@given(valid_fields())
def test_no_valid_request_is_refused_and_every_one_survives_being_written_down(fields):
    request = ImageRequest(**fields)

    assert ImageRequest(**request.model_dump()) == request
    assert ImageRequest.model_validate_json(request.model_dump_json()) == request
    assert pickle.loads(pickle.dumps(request)) == request


@given(valid_fields())
def test_a_call_says_what_the_request_says_and_nothing_else(fields):
    request = ImageRequest(**fields)

    body = json.loads(json.dumps(protocol.submit_call(request).body, ensure_ascii=False).encode())

    assert body.pop("model") == "gpt-image-2"
    assert body.pop("callback_url", None) == fields.get("callback_url")
    sent = body.pop("input")
    assert body == {}
    assert sent["resolution"] in TIERS
    assert sent.get("prompt") == fields.get("prompt")
    assert sent.get("image_urls", []) == fields.get("image_urls", [])
    assert sent["aspect_ratio"] == fields["aspect_ratio"]
    assert sent["nsfw_checker"] == fields.get("nsfw_checker", True)


@given(valid_fields())
def test_every_request_has_a_price_and_sizes_of_its_own_tier(fields):
    request = ImageRequest(**fields)

    assert request.credits == pricing.CREDITS[request.resolution]
    assert request.sizes
    assert {sizes.tier_of(size) for size in request.sizes} == {request.resolution}


@given(st.sampled_from(PIXELS), st.sampled_from(TIERS))
def test_a_pixel_size_is_taken_with_its_own_tier_only(pixels, tier):
    own = ImageRequest(prompt="x", aspect_ratio=pixels).resolution

    if tier == own:
        assert ImageRequest(prompt="x", aspect_ratio=pixels, resolution=tier).resolution == tier
    else:
        with pytest.raises(InvalidRequestError):
            ImageRequest(prompt="x", aspect_ratio=pixels, resolution=tier)


@given(st.sampled_from(RATIOS), st.sampled_from(TIERS))
def test_all_ways_of_asking_the_table_agree(ratio, tier):
    for size in sizes.sizes_of(ratio, tier):
        assert sizes.tier_of(size) == tier
        assert ratio in sizes.ratios_of(size)
        assert sizes.parse_size(str(size)) == size
        assert sizes.sizes_of(str(size), tier) == (size,)


@given(st.integers(1, 99_999), st.integers(1, 99_999))
def test_a_size_is_in_the_table_for_everybody_or_for_nobody(width, height):
    size = sizes.Size(width, height)

    known = sizes.tier_of(size) is not None

    assert known == bool(sizes.ratios_of(size))
    assert sizes.parse_size(str(size)) == size
    if not known:
        with pytest.raises(InvalidRequestError):
            ImageRequest(prompt="x", aspect_ratio=str(size))


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3) | st.tuples(inner)
    ),
    max_leaves=5,
)
FIELDS = ["prompt", "image_urls", "aspect_ratio", "resolution", "nsfw_checker", "callback_url", "size"]


def _check(error):
    assert error.problems
    assert all(problem.message for problem in error.problems)
    assert str(error).encode()


@given(st.dictionaries(st.sampled_from(FIELDS), anything))
def test_whatever_is_given_is_a_request_or_an_invalid_one_and_nothing_else(fields):
    try:
        request = ImageRequest(**fields)
    except InvalidRequestError as error:
        _check(error)
    else:
        assert json.dumps(protocol.submit_call(request).body, ensure_ascii=False).encode()


NAMES = [
    "base_url",
    "connect_timeout",
    "read_timeout",
    "proxy",
    "verify",
    "allow_http",
    "image_hosts",
    "max_image_bytes",
    "rate_limit",
    "prices",
]


@given(st.dictionaries(st.sampled_from(NAMES), anything))
def test_whatever_is_set_is_settings_or_an_error_of_ours_and_shows_no_key(given_settings):
    try:
        shown = repr(ClientSettings(api_key="sk-live-0123456789", **given_settings))
    except GptImageError as error:
        shown = repr(error)

    assert "sk-live" not in shown
