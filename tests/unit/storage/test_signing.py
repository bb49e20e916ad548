"""Reference images on the user's own storage: signed just before they are submitted, and for nobody else."""

from __future__ import annotations

import json
import traceback
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx
import pytest

from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.api.protocol import submit_call
from airflow_gpt_image.errors import DestinationError, InvalidRequestError
from airflow_gpt_image.ledger.record import fingerprint
from airflow_gpt_image.storage.references import NO_REFERENCES, References
from airflow_gpt_image.storage.signing import signed

HOUR, WEEK = 3600, 7 * 24 * 3600
PICTURE = b"\x89PNG a sofa"
HTTP = "https://example.com/room.jpg?token=theirs"


@pytest.fixture
def sofa(bucket):
    """An object in the bucket: its address."""
    bucket.write("a sofa, ü.png", PICTURE)
    return f"{bucket.destination}/a sofa, ü.png"


@pytest.fixture
def connection(monkeypatch, s3):
    """Puts a connection to the S3 server into the environment; its id. A store is kept by its connection."""

    def made(version="s3v4", **fields):
        conn_id = f"store_{uuid4().hex}"
        given = json.loads(s3.airflow_connection())
        given["extra"]["config_kwargs"] = {"signature_version": version}
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(given | fields))
        return conn_id

    return made


def signed_for(request, seconds=HOUR):
    """A request whose author wrote all addresses down himself."""
    return signed(request, seconds=seconds, references=References(written=frozenset(request.image_urls)))


def sign(*addresses, seconds=HOUR):
    return signed_for(ImageRequest(image_urls=addresses), seconds).image_urls


def test_a_signed_address_is_read_by_anybody_without_credentials(sofa):
    (url,) = sign(sofa)

    assert httpx.get(url, trust_env=False).content == PICTURE
    assert "a-secret-of-the-store" not in url


def test_what_is_signed_is_one_object_and_nothing_is_written_with_it(sofa, bucket):
    (url,) = sign(sofa)

    assert urlsplit(url).path.endswith("/some/images/a%20sofa%2C%20%C3%BC.png")
    assert bucket.names() == ["a sofa, ü.png"]


@pytest.mark.parametrize(
    ("seconds", "valid"),
    [(0.5, HOUR), (60, HOUR), (HOUR, HOUR), (7200.9, 7200), (WEEK, WEEK), (10 * WEEK, WEEK), (1e300, WEEK)],
)
def test_it_is_valid_for_as_long_as_is_waited_an_hour_at_least_and_a_week_at_most(
    sofa, connection, bucket, seconds, valid
):
    store = sofa.replace("image_store@", f"{connection()}@")

    (url,) = sign(store, seconds=seconds)

    assert parse_qs(urlsplit(url).query)["X-Amz-Expires"] == [str(valid)]


def test_addresses_of_the_web_pass_unchanged_and_all_stay_in_their_order(sofa):
    urls = sign(HTTP, sofa, "http://example.com/b.png")

    assert (urls[0], urls[2]) == (HTTP, "http://example.com/b.png")
    assert urls[1].startswith("http://127.0.0.1")


def test_a_request_without_objects_is_the_very_same():
    request = ImageRequest(prompt="a bicycle", image_urls=[HTTP])

    assert signed_for(request) is request


def test_nothing_of_the_request_changes_but_the_addresses(sofa):
    request = ImageRequest(
        prompt="a room",
        image_urls=[sofa],
        aspect_ratio="16:9",
        resolution="2k",
        nsfw_checker=False,
        callback_url="https://example.com/done",
    )

    ready = signed_for(request)

    assert ready.model_dump(exclude={"image_urls"}) == request.model_dump(exclude={"image_urls"})
    assert submit_call(ready).body["input"]["image_urls"] == ready.image_urls


def test_an_object_that_nobody_signed_is_not_sent(sofa):
    with pytest.raises(InvalidRequestError, match="signed https address"):
        submit_call(ImageRequest(image_urls=[sofa]))


def test_an_object_that_nobody_allowed_is_not_signed(sofa):
    with pytest.raises(InvalidRequestError, match="reference_roots"):
        signed(ImageRequest(image_urls=[HTTP, sofa]), seconds=HOUR, references=NO_REFERENCES)


def test_the_fingerprint_is_that_of_the_object(sofa):
    request = ImageRequest(image_urls=[sofa])
    before = fingerprint(request, conn_id="c", host="h")

    ready = signed_for(request)

    assert fingerprint(request, conn_id="c", host="h") == before
    assert fingerprint(ready, conn_id="c", host="h") != before
    assert request.image_urls == (sofa,)


def test_a_store_that_cannot_sign_says_so(tmp_path):
    with pytest.raises(InvalidRequestError, match=r"item 1: .*can't sign addresses") as raised:
        sign(HTTP, f"file://{tmp_path}/sofa.png")

    assert not raised.value.retryable
    assert [problem.field for problem in raised.value.problems] == ["image_urls"]


def test_a_store_that_airflow_does_not_know_says_what_to_install():
    with pytest.raises(InvalidRequestError, match=r"knows no store 'gs'\.\n.*\nInstall"):
        sign("gs://bucket/sofa.png")


def test_a_broken_connection_may_be_mended_and_its_secrets_are_not_told(connection):
    conn_id = connection(extra={"endpoint_url": "nonsense of hunter2"}, password="hunter2-too")

    with pytest.raises(DestinationError, match="could not be signed") as raised:
        sign(f"s3://{conn_id}@bucket/sofa.png")

    assert raised.value.retryable
    assert "hunter2" not in "".join(traceback.format_exception(raised.value))


def test_a_signed_address_that_is_not_taken_does_not_show_its_signature(connection):
    conn_id = connection(extra={"endpoint_url": "http://me:hunter2@127.0.0.1:1"})

    with pytest.raises(InvalidRequestError) as raised:
        sign(f"s3://{conn_id}@bucket/sofa.png")

    told = "".join(traceback.format_exception(raised.value)) + repr(raised.value.problems)
    assert "hunter2" not in told
    assert "Signature" not in told


@pytest.mark.parametrize(
    "address",
    [
        "s3://AKID:hunter2@bucket/sofa.png",
        "abfs://me:hunter2@container/sofa.png",
    ],
)
def test_a_password_in_an_objects_address_is_refused_and_not_repeated(address):
    with pytest.raises(InvalidRequestError, match="contains a password") as raised:
        ImageRequest(image_urls=[address])

    assert "hunter2" not in str(raised.value)
