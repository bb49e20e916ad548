"""Over all answers there are, of the API's own and of anybody else's."""

from __future__ import annotations

import json
import pickle
from decimal import Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_gpt_image.api import flows, pricing, protocol
from airflow_gpt_image.api.models import Generation
from airflow_gpt_image.api.retrying import parse_retry_after
from airflow_gpt_image.errors import GptImageError, SubmissionUnknownError, error_class
from airflow_gpt_image.ledger.record import GenerationFacts

KEY = "sk-live-0123456789abcdef"
ID = "397ce9f2-c04e-4244-ac33-3af19a7cc297"
CODES = [
    "invalid_request",
    "invalid_api_key",
    "task_not_found",
    "rate_limit_exceeded",
    "spend_limit_exceeded",
    "internal_error",
    "upstream_error",
    "something_new",
]

texts = st.one_of(
    st.text(max_size=40), st.text(max_size=9).map(lambda text: f"{text}{KEY}{text}"), st.just(ID)
)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    texts,
    st.just("\ud800"),
    st.just("\x00\x1b[31m\r\n"),
    st.just("x" * 900_000),
    st.sampled_from([1775383908, 1775383908000, -1775383908, "1775383908", 253402300800]),
    st.just(10**4000),
    st.sampled_from(["completed", "failed", "pending", *CODES]),
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
documents = st.one_of(
    values,
    # Near the truth is where the paths are.
    st.fixed_dictionaries(
        {},
        optional={
            "id": st.just(ID) | values,
            "status": st.sampled_from(["completed", "failed", "pending", "queued"]) | values,
            "model": values,
            "created_at": values,
            "completed_at": values,
            "output": st.fixed_dictionaries(
                {}, optional={"urls": st.lists(texts, max_size=3) | values, "metadata": values}
            )
            | values,
            "error": st.fixed_dictionaries(
                {}, optional={"code": st.sampled_from(CODES) | values, "message": values, "type": values}
            )
            | values,
            "code": st.sampled_from([200, 400, 500, 0, True, "200"]) | values,
            "msg": values,
            "data": st.fixed_dictionaries({}, optional={"taskId": st.just(ID) | values, "credits": values})
            | values,
            "credits": values,
        },
    ),
)
bodies = st.one_of(
    documents.map(lambda document: json.dumps(document).encode()),
    documents.map(lambda document: json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")),
    st.binary(max_size=60),
    st.integers(0, 3000).map(lambda depth: b'{"data": ' + b"[" * depth + b"]" * depth + b"}"),
)
headers = st.dictionaries(
    st.sampled_from(["retry-after", "x-request-id", "location", "content-type"]),
    st.one_of(texts, st.just("5"), st.just("https://example.com/")),
)
statuses = st.sampled_from(
    [200, 200, 200, 201, 204, 302, 400, 401, 402, 403, 404, 429, 500, 502, 503, 504, 999]
)


def _answer(status, headers, body):
    return protocol.parse_response(status=status, headers=headers, body=body, at=1_775_383_908.0, api_key=KEY)


def _check(error, generation_id=None):
    """What holds for every error: it keeps the key to itself, and can be logged and carried about."""
    assert KEY not in str(error) + repr(error) + repr(vars(error))
    assert generation_id in (None, error.generation_id)
    assert str(error).encode()
    assert len(str(error)) < 4000
    # What the API says stays on its line, beside the rule and the remedy.
    assert len(str(error).splitlines()) in (1, 3)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


@given(statuses, headers, bodies)
def test_an_answer_to_a_read_is_that_generation_or_an_error_of_ours(status, headers, body):
    try:
        generation = protocol.parse_generation(_answer(status, headers, body), ID)
    except GptImageError as error:
        _check(error, generation_id=ID)
    else:
        assert isinstance(generation, Generation)
        assert generation.id == ID
        assert KEY not in repr(generation)


@given(headers, bodies)
def test_what_is_kept_of_a_generation_can_be_stored_in_any_database(headers, body):
    try:
        generation = protocol.parse_generation(_answer(200, headers, body), ID)
    except GptImageError:
        return
    facts = GenerationFacts.of(generation).model_dump(mode="json")
    kept = json.dumps([facts, generation.urls, generation.error.model_dump()], allow_nan=False)
    text = json.dumps(json.loads(kept), ensure_ascii=False)

    assert text.encode()
    assert "\\u0000" not in text
    assert len(json.dumps(facts)) < 6_000
    assert all(len(url) <= 10_000 for url in generation.urls)
    assert GenerationFacts.model_validate_json(json.dumps(facts)) == GenerationFacts.of(generation)


@given(statuses, headers, bodies)
def test_an_answer_to_a_submit_is_an_id_or_an_error_of_ours(status, headers, body):
    try:
        generation_id = protocol.parse_submit(_answer(status, headers, body))
    except GptImageError as error:
        _check(error)
    else:
        assert protocol.get_call(generation_id)


@given(statuses, headers, bodies)
def test_an_answer_about_the_balance_is_an_amount_with_a_price_or_an_error_of_ours(status, headers, body):
    try:
        balance = protocol.parse_balance(_answer(status, headers, body))
    except GptImageError as error:
        _check(error)
    else:
        assert isinstance(pricing.usd(balance), Decimal)


# "Error Reference" of the API document, and the envelope's codes that refuse.
REFERENCE = {
    (400, "invalid_request"),
    (401, "invalid_api_key"),
    (402, "insufficient_credits"),
    (403, "ip_not_allowed"),
    (404, "model_not_found"),
    (404, "task_not_found"),
    (429, "rate_limit_exceeded"),
    (429, "spend_limit_exceeded"),
    (500, "internal_error"),
    (503, "upstream_error"),
}
REFUSING = (400, 401, 402, 403, 404, 422, 429)
any_status = statuses | st.integers(100, 599)
near_refusals = st.fixed_dictionaries(
    {},
    optional={
        "error": st.fixed_dictionaries(
            {},
            optional={
                "code": st.sampled_from([*CODES, "ip_not_allowed", "504", 504, None]) | values,
                "type": st.sampled_from(["rate_limit_error", "timeout"]) | values,
                "message": values,
            },
        )
        | values,
        "code": st.sampled_from([*REFUSING, 200, 408, 409, 425, 499, 500, 504, "400", 400.0]) | values,
        "msg": values,
        "data": st.none() | st.fixed_dictionaries({}, optional={"taskId": st.just(ID) | values}) | values,
    },
)


@settings(max_examples=200)
@given(any_status, headers, near_refusals.map(lambda document: json.dumps(document).encode()) | bodies)
def test_nothing_but_the_documents_words_means_that_a_submit_was_not_accepted(status, headers, body):
    try:
        protocol.parse_submit(_answer(status, headers, body))
    except SubmissionUnknownError:
        return
    except GptImageError as error:
        refusal = error
    else:
        return

    document = json.loads(body)
    error, envelope = document.get("error"), document.get("code")
    in_the_table = isinstance(error, dict) and any(
        status == row_status and error.get("code") == code for row_status, code in REFERENCE
    )
    refused = type(envelope) is int and envelope in REFUSING and (200 <= status < 300 or status == envelope)
    assert in_the_table or refused
    assert not isinstance(refusal, SubmissionUnknownError)
    assert not (isinstance(document.get("data"), dict) and document["data"].get("taskId"))


@given(
    st.sampled_from(sorted(REFERENCE)),
    st.fixed_dictionaries({}, optional={"message": values, "type": values}),
)
def test_the_documents_words_always_mean_that_a_submit_was_not_accepted(row, more):
    status, code = row
    body = json.dumps({"error": {**more, "code": code}}).encode()

    with pytest.raises(error_class(code=code)) as caught:
        protocol.parse_submit(_answer(status, {}, body))

    assert (caught.value.status, caught.value.code) == row


@given(statuses, documents.filter(lambda document: isinstance(document, dict)))
def test_an_id_in_the_answer_to_a_submit_is_never_lost(status, document):
    body = json.dumps({**document, "data": {"taskId": ID}}).encode()

    try:
        generation_id = protocol.parse_submit(_answer(status, {}, body))
    except SubmissionUnknownError as error:
        generation_id = error.generation_id

    assert generation_id == ID


@given(
    st.fixed_dictionaries(
        {"id": st.just(ID), "status": st.sampled_from(["completed", "failed"])},
        optional={
            "created_at": values,
            "model": values,
            "error": st.dictionaries(st.sampled_from(["code", "message", "type"]), values),
        },
    )
)
def test_a_finished_generation_succeeded_or_raises_an_error_of_ours(document):
    generation = protocol.parse_generation(_answer(200, {}, json.dumps(document).encode()), ID)

    with pytest.raises(GptImageError) as caught:
        flows.succeeded(generation)

    _check(caught.value, generation_id=ID)


@given(
    st.one_of(
        st.none(),
        st.text(),
        st.floats().map(str),
        st.integers().map(str),
        st.datetimes().map(lambda moment: moment.strftime("%a, %d %b %Y %H:%M:%S GMT")),
        st.text("0123456789+-:, JanFebMonTueGMTES()", max_size=40),
        st.builds(
            "{}, {} {} {} {}:{}:{} {}".format,
            st.sampled_from(["Mon", "", "X"]),
            st.integers(-5, 99),
            st.sampled_from(["Jan", "Dec", "Foo", ""]),
            st.integers(-99, 10**6),
            st.integers(-1, 99),
            st.integers(0, 99),
            st.integers(0, 99),
            st.sampled_from(["GMT", "-0000", "+9999", "-99999999", "EST", "", "+1e9"]),
        ),
    ),
    st.floats(0, 1e11),
)
@example("Mon, 01 Jan 0000 00:00:00 GMT", 0.0)
@example("Fri, 31 Dec 9999 23:59:59 -9999", 0.0)
@example("Mon, 01 Jan 0001 00:00:00 +2300", 1e11)
def test_no_wish_of_a_server_raises_and_none_is_endless(value, now):
    seconds = parse_retry_after(value, now=now)

    assert seconds is None or 0 <= seconds <= 7 * 24 * 3600
