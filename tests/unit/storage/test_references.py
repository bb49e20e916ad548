"""Which objects may be signed: what a prefix covers, and what only looks as if it did."""

from __future__ import annotations

import pytest

from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.errors import InvalidRequestError
from airflow_gpt_image.storage.references import NO_REFERENCES, References, check_roots

BUCKET = "s3://my_aws@photos/"
FOLDER = "s3://my_aws@photos/a"


def references(*roots):
    return References(check_roots(roots))


@pytest.mark.parametrize(
    ("root", "address"),
    [
        (BUCKET, "s3://my_aws@photos/x.png"),
        (BUCKET, "s3://my_aws@photos/a/b/a sofa, ü.png"),
        (BUCKET, "s3://my_aws@photos/50%.png"),
        (BUCKET, "s3://my_aws@photos/a..b/c...png"),
        ("s3://my_aws@photos", "s3://my_aws@photos/x.png"),
        (FOLDER, "s3://my_aws@photos/a"),
        (FOLDER, "s3://my_aws@photos/a/x.png"),
        (FOLDER + "/", "s3://my_aws@photos/a/x.png"),
        ("s3://photos/", "s3://photos/x.png"),
        ("gs://google@photos/shop/", "gs://google@photos/shop/x.png"),
    ],
)
def test_a_root_covers_what_is_beneath_it(root, address):
    assert references(root).refusal(address) is None


@pytest.mark.parametrize(
    ("root", "address"),
    [
        (BUCKET, "s3://my_aws@photos-secret/x.png"),
        (BUCKET, "s3://my_aws@photos.secret/x.png"),
        (BUCKET, "s3://my_aws@payroll/x.png"),
        (BUCKET, "s3://prod_admin@photos/x.png"),
        (BUCKET, "s3://my_aws2@photos/x.png"),
        (BUCKET, "s3://photos/x.png"),
        (BUCKET, "s3://my_aws@@photos/x.png"),
        (BUCKET, "s3://x@my_aws@photos/x.png"),
        (BUCKET, "s3://MY_AWS@photos/x.png"),
        (BUCKET, "s3://my_aws@Photos/x.png"),
        (BUCKET, "s3a://my_aws@photos/x.png"),
        (BUCKET, "gs://my_aws@photos/x.png"),
        (BUCKET, "s3://my_aws%40photos/x.png"),
        (BUCKET, "s3://my_aws@photos/../payroll/x.png"),
        (BUCKET, "s3://my_aws@photos//x.png"),
        (BUCKET, "s3://my_aws@photos/./x.png"),
        (BUCKET, "file:///etc/passwd"),
        ("s3://photos/", "s3://my_aws@photos/x.png"),
        (FOLDER, "s3://my_aws@photos/ab/x.png"),
        (FOLDER, "s3://my_aws@photos/a.png"),
        (FOLDER, "s3://my_aws@photos/b/x.png"),
        (FOLDER, "s3://my_aws@photos/A/x.png"),
        (FOLDER, "s3://my_aws@photos/a/../b.png"),
        (FOLDER, "s3://my_aws@photos/a/b/../../c.png"),
        (FOLDER, "s3://my_aws@photos/a/..\\b.png"),
        (FOLDER, "s3://my_aws@photos/a/%2e%2e/b.png"),
        (FOLDER, "s3://my_aws@photos/a/..%2fb.png"),
        (FOLDER, "s3://my_aws@photos/a/%252e%252e%252fb.png"),
        (FOLDER, "s3://my_aws@photos/a/%2525252525252e.png"),
        (FOLDER, "s3://my_aws@photos/a%2f..%2fb.png"),
        (FOLDER, "s3://my_aws@photos/a/%5c..%5cb.png"),
        (FOLDER, "s3://my_aws@photos/a//b.png"),
    ],
)
def test_and_nothing_that_only_looks_so(root, address):
    refusal = references(root).refusal(address)

    assert refusal is not None
    assert "reference_roots" in refusal.rule


def test_without_roots_no_object_is_signed_and_any_address_of_the_web_may_be_sent():
    assert NO_REFERENCES.refusal("https://example.com/x.png") is None
    assert NO_REFERENCES.refusal("s3://my_aws@photos/x.png") is not None


def test_an_address_that_the_author_wrote_down_is_his_word_and_no_other_one_is():
    written = References(written=frozenset({"s3://my_aws@photos/x.png"}))

    assert written.refusal("s3://my_aws@photos/x.png") is None
    assert written.refusal("s3://my_aws@photos/x.png2") is not None


def test_a_request_is_refused_with_the_item_the_rule_and_what_to_do():
    request = ImageRequest(image_urls=["https://example.com/x.png", "s3://prod_admin@payroll/x.png"])

    with pytest.raises(InvalidRequestError) as raised:
        references(BUCKET).check(request)

    happened, rule, remedy = raised.value.message.split("\n")
    assert "item 1: 's3://prod_admin@payroll/x.png'" in happened
    assert "s3://my_aws@photos" in rule
    assert "list its folder" in remedy
    assert [problem.field for problem in raised.value.problems] == ["image_urls"]


@pytest.mark.parametrize(
    "roots",
    [
        "s3://my_aws@photos/",
        ["s3://"],
        ["s3:///photos"],
        ["photos/"],
        ["/data/photos"],
        ["file:///data/photos"],
        ["https://example.com/photos/"],
        ["S3://my_aws@photos/"],
        ["s3://my_aws@photos/../"],
        ["s3://my_aws@photos//a"],
        ["s3://my_aws@photos/./a"],
        ["s3://my_aws@photos/%2e%2e/a"],
        ["s3://my_aws@photos/*"],
        ["s3://my_aws@photos/?x"],
        ["s3://my_aws@photos/#x"],
        ["s3://my_aws@photos\\a"],
        ["s3://my_aws@photos/{{ dag_run.conf['folder'] }}"],
        ["s3://my_aws@photos/a\n"],
        [""],
        [None],
        [5],
        {"s3://my_aws@photos/": 1},
        5,
    ],
    ids=repr,
)
def test_what_is_no_list_of_plain_prefixes_is_refused_with_an_example(roots):
    with pytest.raises(InvalidRequestError, match=r"^reference_roots: ") as raised:
        check_roots(roots)

    assert len(raised.value.message.split("\n")) == 3
    assert "s3://my_conn_id@bucket/photos/" in raised.value.message


def test_a_password_in_a_root_is_not_shown():
    with pytest.raises(InvalidRequestError, match="password") as raised:
        check_roots(["s3://AKID:hunter2@photos/"])

    assert "hunter2" not in raised.value.message
