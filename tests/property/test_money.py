"""Nobody pays twice, over all courses a submit can take."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from airflow_gpt_image.api import flows, protocol
from airflow_gpt_image.api.client import AsyncGptImageClient, GptImageClient
from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.api.protocol import NoResponse
from airflow_gpt_image.api.retrying import Retrying
from airflow_gpt_image.api.steps import Send
from airflow_gpt_image.errors import (
    ConnectionFailedError,
    GptImageError,
    RateLimitError,
    SubmissionUnknownError,
)
from airflow_gpt_image.ledger import Ledger, Waiting, fingerprint
from airflow_gpt_image.paying import Rules, pay_once

KEY = "sk-live-0123456789abcdef"
ID = "397ce9f2-c04e-4244-ac33-3af19a7cc297"
REQUEST = ImageRequest(prompt="x")


def _answer(status, body, **headers):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return protocol.parse_response(status=status, headers=headers, body=raw, at=0.0, api_key=KEY)


def _refusal(status, code):
    return _answer(status, {"error": {"code": code, "message": "m", "type": "t"}})


# Nothing was accepted: these alone may be followed by another send.
PROOF_OF_NOTHING = [
    NoResponse(sent=False, reason="ConnectError: refused", at=0.0),
    _refusal(429, "rate_limit_exceeded"),
    _answer(429, {"error": {"code": "rate_limit_exceeded"}}, **{"retry-after": "3"}),
]
REFUSED_FOR_GOOD = [
    _refusal(400, "invalid_request"),
    _refusal(402, "insufficient_credits"),
    # Not accepted by our reading only, so not sent again either.
    _refusal(500, "internal_error"),
    _refusal(503, "upstream_error"),
]
ACCEPTED = [_answer(200, {"code": 200, "msg": "success", "data": {"taskId": ID}})]
no_proof = st.one_of(
    st.just(NoResponse(sent=True, reason="ReadTimeout", at=0.0)),
    st.builds(
        _answer,
        st.sampled_from([200, 201, 202, 204, 302, 307, 401, 404, 413, 429, 500, 502, 503, 504]),
        st.one_of(
            st.binary(max_size=30),
            st.just(b"<html>"),
            st.just({}),
            st.just({"message": "try again"}),
            st.just({"data": {"task_id": ID}}),
            st.just({"error": "busy"}),
            st.just({"error": {"code": "504", "type": "timeout"}}),
            st.just({"error": {"type": "rate_limit_error"}}),
            st.just({"code": 504, "msg": "timeout"}),
        ),
    ),
    st.builds(
        _answer, st.just(200), st.sampled_from([{"code": 0, "msg": "ok"}, {"code": 201}, {"code": 202}])
    ),
    st.builds(
        _answer,
        st.sampled_from([200, 400, 429, 500, 503]),
        st.sampled_from(
            [
                {"error": {"code": "internal_error"}, "data": {"taskId": ID}},
                {"code": 500, "data": {"taskId": ID}},
                {"error": {"code": "rate_limit_exceeded"}, "code": 200, "data": {"taskId": ID}},
            ]
        ),
    ),
)
courses = st.lists(
    st.one_of(
        st.sampled_from(PROOF_OF_NOTHING),
        no_proof,
        st.sampled_from(REFUSED_FOR_GOOD),
        st.sampled_from(ACCEPTED),
    ),
    min_size=8,
    max_size=8,
)


@settings(max_examples=400)
@given(courses, st.integers(1, 6))
def test_a_submit_is_sent_again_only_after_proof_that_nothing_was_accepted(course, most_sends):
    seen = []

    with pytest.raises((StopIteration, GptImageError)):
        _walk(flows.submit(REQUEST, Retrying(most_sends=most_sends)), course, seen)

    assert all(reply in PROOF_OF_NOTHING for reply in seen[:-1])
    assert len(seen) <= most_sends


def _walk(flow, course, seen):
    """Give a flow these replies until it ends; ``seen`` are those it asked for."""
    came = None
    while True:
        step = flow.send(came)
        came = 0.0
        if isinstance(step, Send):
            came = course[len(seen)]
            seen.append(came)


junk_headers = st.dictionaries(
    st.sampled_from(
        [
            b"location",
            b"retry-after",
            b"set-cookie",
            b"content-encoding",
            b"x-request-id",
            b"transfer-encoding",
        ]
    ),
    st.one_of(
        st.binary(max_size=30).map(lambda text: text.replace(b"\r", b"").replace(b"\n", b"")),
        st.sampled_from(
            [
                b"mailto:x",
                b"//[",
                b"https://xn--.example/",
                b"http:x",
                b"gzip",
                b"deflate",
                b"identity",
                b"a=b; Max-Age=x",
                KEY.encode(),
                b"https://evil.example/" + KEY.encode(),
                b"https://[::1",
            ]
        ),
    ),
)


@pytest.mark.parametrize("kind", [GptImageClient, AsyncGptImageClient])
@settings(max_examples=150)
@given(
    st.sampled_from([200, 201, 204, 301, 302, 303, 307, 308, 400, 500, 502, 503]),
    junk_headers,
    st.binary(max_size=40),
)
def test_whatever_a_server_says_one_submit_is_one_post_and_an_error_of_ours(kind, status, headers, body):
    posts = []

    def say(request):
        posts.append(request)
        return httpx.Response(status, headers=list(headers.items()), stream=httpx.ByteStream(body))

    with pytest.raises(GptImageError) as caught:
        _submit(kind, httpx.MockTransport(say))

    assert len(posts) == 1
    assert KEY not in str(caught.value) + repr(vars(caught.value))
    assert str(caught.value).encode()


def _submit(kind, transport):
    client = kind(api_key=KEY, transport=transport, retrying=Retrying(first_pause=0.001))
    if kind is GptImageClient:
        with client:
            return client.submit(REQUEST)

    async def submitted():
        async with client:
            return await client.submit(REQUEST)

    return asyncio.run(submitted())


# Whatever happens in whatever order: retries, clears, deaths, lost answers, stale workers

TEAPOT, BICYCLE = ImageRequest(prompt="a teapot"), ImageRequest(prompt="a bicycle")
LARGE = ImageRequest(prompt="a teapot", resolution="2k")


class DiedError(BaseException):
    """The worker is dead: nothing of it runs on, so no ``except Exception`` may see this."""


class Silence:
    """A logger, for thousands of lines that nobody reads."""

    def info(self, event, /, *args): ...

    def warning(self, event, /, *args): ...


@dataclass(eq=False)
class Charge:
    """One accepted submit in the API's books."""

    id: str
    request: ImageRequest
    max_tries: int
    status: str = "pending"

    @property
    def kept(self):
        return Decimal(0) if self.status == "failed" else self.request.credits


@dataclass
class Trouble:
    """What befalls a try, and at which of the points it passes: around every write and around the POST."""

    point: str = "nowhere"
    kind: str = "die"
    next: dict[str, Any] = field(default_factory=dict)


@dataclass(eq=False)
class Try:
    """One task instance: Airflow's accessor of the state that all of them share, and what befalls it."""

    world: Money
    max_tries: int
    trouble: Trouble
    writes: int = 0
    intended: bool = False
    settled: bool = False

    @property
    def newest(self):
        return self.world.newest is self

    def get(self, key, default=None):
        # A replaced task instance is answered as if nothing were stored.
        return json.loads(self.world.document) if self.newest and self.world.document else default

    def set(self, key, value, *, retention=None):
        self.writes += 1
        self.pass_by(f"before write {self.writes}")
        if not self.newest:
            raise RuntimeError("this task instance was replaced")
        self.world.document = json.dumps(value)
        self.intended = True
        self.pass_by(f"after write {self.writes}")

    def pass_by(self, point):
        if self.trouble.point != point:
            return
        if self.trouble.kind == "die":
            raise DiedError
        if self.trouble.kind == "break":
            raise ConnectionError(point)
        # The task instance is replaced: another try comes and goes, and only then does this one go on.
        self.world.doubt(self)
        self.world.a_try_begins(**self.trouble.next)


a_try = {
    "happening": st.sampled_from(["retry"] * 4 + ["clear", "clear", "clear that doesn't show"]),
    "request": st.sampled_from([TEAPOT, TEAPOT, BICYCLE, LARGE]),
    "answer": st.sampled_from(["accepted"] * 2 + ["refused", "never left", "lost", "lost before", "odd"]),
}
troubles = st.one_of(
    st.just(Trouble()),
    st.just(Trouble()),
    st.builds(
        Trouble,
        point=st.builds(
            "{} {}".format,
            st.sampled_from(["before", "after"]),
            st.sampled_from(["write 1", "POST", "write 2", "write 3"]),
        ),
        kind=st.sampled_from(["die", "break", "be replaced"]),
        next=st.fixed_dictionaries({**a_try, "trouble": st.just(Trouble())}),
    ),
)


class Money(RuleBasedStateMachine):
    """
    The real ledger and the real ``pay_once`` between a model of Airflow's store and one of the API's books.

    Promised, and checked at every POST and after every step:

    - Unless the author chose otherwise, a request has at most one charge that wasn't refunded, and is never
      submitted while an earlier submit of it is unknown.
    - ``regenerate`` allows one more charge for each clear that shows, ``resubmit`` one more for each intent
      whose outcome nobody knows. No choice allows more.
    - What is on record as paid for is what the next try gets, and it is what was asked for.
    - What the ledger says was spent is never less than what the books keep of the submits since the last
      clear that shows, and that is never more than ``max_credits``. A submit belongs to the clear its try
      began under, also when a stale worker sends it later; its refund belongs to where the charge does.
    """

    def __init__(self):
        super().__init__()
        self.document = self.newest = None
        self.charges, self.old = [], []
        self.unknown = {}
        self.max_tries, self.clears, self.doubts = 2, 0, 0
        self.waits = False

    @initialize(
        on_clear=st.sampled_from(["reuse", "regenerate"]),
        on_unknown_submit=st.sampled_from(["fail", "resubmit"]),
        max_credits=st.sampled_from([None, Decimal("4.7"), Decimal("14.1")]),
    )
    def the_author_decides(self, **decisions):
        self.rules = Rules(**decisions)
        self.regenerate = self.rules.on_clear == "regenerate"
        self.resubmit = self.rules.on_unknown_submit == "resubmit"

    @rule(trouble=troubles, **a_try)
    def a_try_begins(self, happening, request, answer, trouble):
        if happening == "clear" and self.newest is not None:
            self.max_tries += 1
            self.clears += 1
        attempt = self.newest = Try(self, self.max_tries, trouble)
        self.waits = False
        with suppress(GptImageError, DiedError, ConnectionError):
            ledger = Ledger(attempt, max_tries=attempt.max_tries)
            self.old.append((attempt, ledger))
            self._pay(attempt, ledger, request, answer)

    @precondition(lambda self: len(self.old) > 1)
    @rule(which=st.integers(0, 9), request=a_try["request"], answer=a_try["answer"])
    def a_worker_goes_on_that_was_replaced_long_ago(self, which, request, answer):
        attempt, ledger = self.old[which % len(self.old)]
        if attempt.newest:
            return
        attempt.trouble = Trouble()
        before = len(self.charges), self.document

        with suppress(GptImageError):
            self._pay(attempt, ledger, request, answer)

        assert (len(self.charges), self.document) == before

    @precondition(lambda self: any(charge.status == "pending" for charge in self.charges))
    @rule(which=st.integers(0, 9), status=st.sampled_from(["completed", "failed"]))
    def a_generation_ends(self, which, status):
        pending = [charge for charge in self.charges if charge.status == "pending"]
        pending[which % len(pending)].status = status

    @precondition(lambda self: self.waits)
    @rule(
        status=st.sampled_from(["completed", "failed", "pending", "forgotten"]),
        trouble=st.sampled_from(["", "", "die before", "die after", "break before", "break after"]),
    )
    def the_task_is_woken(self, status, trouble):
        kind, _, when = trouble.partition(" ")
        self.newest.writes = 0
        self.newest.trouble = Trouble(f"{when} write 1", kind) if when else Trouble()
        with suppress(GptImageError, DiedError, ConnectionError):
            ledger = Ledger(self.newest, max_tries=self.newest.max_tries)
            waiting, record = ledger.waiting()
            charge = next(charge for charge in self.charges if charge.id == record.generation_id)
            self.waits = status == "pending"
            if status in ("completed", "failed"):
                charge.status = status if charge.status == "pending" else charge.status
                settle = ledger.stored if charge.status == "completed" else ledger.failed
                settle(
                    waiting.fingerprint, {} if charge.status == "completed" else "m", now=datetime.now(UTC)
                )

    @invariant()
    def nobody_pays_twice(self):
        kept = Counter(charge.request for charge in self.charges if charge.kept)
        further = sum(count - 1 for count in kept.values())
        assert further <= self.regenerate * self.clears + self.resubmit * self.doubts

    @invariant()
    def what_was_spent_is_on_record(self):
        if self.newest is not None:
            assert Ledger(self.newest, max_tries=self.max_tries).spent.net >= self._kept(self.max_tries)

    @invariant()
    def max_credits_is_not_exceeded(self):
        if self.newest is not None and self.rules.max_credits is not None:
            for max_tries in {charge.max_tries for charge in self.charges}:
                assert self._kept(max_tries) <= self.rules.max_credits

    def _kept(self, max_tries):
        return sum((charge.kept for charge in self.charges if charge.max_tries == max_tries), Decimal(0))

    def _on_record(self, identity):
        return json.loads(self.document or '{"records": {}}')["records"].get(identity, {})

    def _pay(self, attempt, ledger, request, answer):
        """What the operator does in ``execute``, and what must be true of it."""
        identity = fingerprint(request, conn_id="gpt_image_default", host="api.example.com")
        before, posts = self.document, len(self.charges)
        found = self._on_record(identity)
        follows_a_clear = before is not None and attempt.max_tries > json.loads(before)["max_tries"]
        try:
            record, reused = pay_once(
                ledger,
                identity,
                request,
                lambda: lambda: self._post(attempt, identity, request, answer),
                self.rules,
                Silence(),
            )
            attempt.settled = True
        except GptImageError:
            attempt.settled = attempt.newest and self.document == before
            raise
        finally:
            self.doubt(attempt)
        if attempt.newest:
            self.unknown[request] = []
        paid = next(charge for charge in self.charges if charge.id == record.generation_id)
        assert paid.request == request
        if attempt.newest and found.get("state") in ("submitted", "stored"):
            assert reused is not (self.regenerate and follows_a_clear)
        if reused and attempt.newest:
            assert (record.generation_id, posts) == (found["generation_id"], len(self.charges))
        if record.state == "submitted":
            ledger.wait(Waiting(fingerprint=identity, deadline=0.0, reused=reused))
            self.waits = self.waits or attempt.newest

    def _post(self, attempt, identity, request, answer):
        """What the API does with a submit, and what must be true before one is sent."""
        if attempt.newest:
            assert self._on_record(identity)["state"] == "intent"
            for earlier in self.unknown.get(request, []):
                assert self.resubmit or (self.regenerate and attempt.max_tries > earlier.max_tries)
        self.unknown.setdefault(request, []).append(attempt)
        attempt.pass_by("before POST")
        if answer in ("refused", "never left"):
            self.unknown[request] = [other for other in self.unknown[request] if other is not attempt]
            raise RateLimitError("m") if answer == "refused" else ConnectionFailedError("m")
        if answer == "lost before":
            raise SubmissionUnknownError("m")
        charge = Charge(f"g{len(self.charges)}", request, attempt.max_tries)
        self.charges.append(charge)
        attempt.pass_by("after POST")
        if answer == "lost":
            raise SubmissionUnknownError("m")
        if answer == "odd":
            raise SubmissionUnknownError("An id and an error at once.", generation_id=charge.id)
        return charge.id

    def doubt(self, attempt):
        """Count an intent whose outcome the next try can't know; once."""
        if attempt.intended and not attempt.settled:
            self.doubts += 1
            attempt.settled = True


class TestMoney(Money.TestCase):
    settings = settings(max_examples=150, stateful_step_count=30, phases=set(Phase) - {Phase.explain})
