"""What was paid for is found again; what can't be read is never taken for "nothing there"."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from airflow.sdk.execution_time.context import NEVER_EXPIRE

from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.errors import LedgerError
from airflow_gpt_image.ledger import KEY, Ledger, Spent, Waiting, fingerprint
from tests.state_store import Store

NOW = datetime(2026, 4, 5, 10, 11, 48, tzinfo=UTC)
REQUEST = ImageRequest(prompt="a red teapot")
OTHER = ImageRequest(prompt="a blue teapot", resolution="2k")
ACCOUNT = {"conn_id": "gpt_image_default", "host": "api.aivideoapi.ai"}
ME = fingerprint(REQUEST, **ACCOUNT)
YOU = fingerprint(OTHER, **ACCOUNT)


class LedgerStore(Store):
    """One that remembers all that was written."""

    def __init__(self):
        super().__init__()
        self.writes = []

    def set(self, key, value, *, retention=None):
        super().set(key, value, retention=retention)
        self.writes.append(json.loads(self.texts[key]))

    @property
    def document(self):
        return json.loads(self.texts[KEY])


@pytest.fixture
def store():
    return LedgerStore()


@pytest.fixture
def ledger(store):
    """A try's ledger, as each try makes its own."""
    return lambda max_tries=1: Ledger(store, max_tries=max_tries)


@pytest.fixture
def submitted(ledger):
    """A try that submitted and then went away."""
    first = ledger()
    first.intend(ME, REQUEST, now=NOW)
    first.submitted(ME, "g1", now=NOW)
    return first


# The fingerprint


def test_the_fingerprint_is_the_documented_one_of_version_1():
    # By hand, not through the code: who changes this finds none of what was paid for before.
    canonical = (
        '["v1","gpt_image_default","api.aivideoapi.ai","gpt-image-2","a red teapot",'
        '["https://example.com/a.png","https://example.com/b.png"],"16:9","2k",true]'
    )
    request = ImageRequest(
        prompt="a red teapot",
        image_urls=["https://example.com/a.png", "https://example.com/b.png"],
        aspect_ratio="16:9",
        resolution="2k",
    )

    identity = fingerprint(request, **ACCOUNT)

    assert identity == hashlib.sha256(canonical.encode()).hexdigest()
    assert identity == "51cd23ac0321d2418da1d681d2222fd43ac04ca3a8ca081cc39e5da0a079a5fa"


def test_the_fingerprint_of_a_bare_prompt_in_another_script_is_pinned_too():
    canonical = (
        '["v1","studio","127.0.0.1:8765","gpt-image-2","ein blauer Krug, 青い壺 🏺",[],"1:1","1k",false]'
    )
    request = ImageRequest(prompt="ein blauer Krug, 青い壺 🏺", nsfw_checker=False)

    identity = fingerprint(request, conn_id="studio", host="127.0.0.1:8765")

    assert identity == hashlib.sha256(canonical.encode("utf-8")).hexdigest()


def test_auto_and_one_to_one_are_the_same_image():
    automatic = ImageRequest(prompt="x", aspect_ratio="auto")
    square = ImageRequest(prompt="x", aspect_ratio="1:1")

    assert fingerprint(automatic, **ACCOUNT) == fingerprint(square, **ACCOUNT)


def test_the_tier_that_is_meant_anyway_may_be_said():
    meant = ImageRequest(prompt="x", aspect_ratio="2048x1152")
    said = ImageRequest(prompt="x", aspect_ratio="2048x1152", resolution="2k")

    assert fingerprint(meant, **ACCOUNT) == fingerprint(said, **ACCOUNT)


def test_where_the_api_reports_to_makes_no_other_image():
    told = ImageRequest(prompt="x", callback_url="https://example.com/hook?run=1")

    assert fingerprint(told, **ACCOUNT) == fingerprint(ImageRequest(prompt="x"), **ACCOUNT)


BASE = {"prompt": "x", "image_urls": ["https://example.com/a.png", "https://example.com/b.png"]}


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "y"},
        {"prompt": "x "},
        {"prompt": None},
        {"image_urls": []},
        {"image_urls": ["https://example.com/a.png"]},
        {"image_urls": ["https://example.com/b.png", "https://example.com/a.png"]},
        {"image_urls": ["https://example.com/a.png", "https://example.com/c.png"]},
        {"aspect_ratio": "3:2"},
        {"aspect_ratio": "1024x1024"},
        {"resolution": "2k"},
        {"nsfw_checker": False},
    ],
    ids=str,
)
def test_every_part_of_a_request_makes_another_fingerprint(change):
    base, changed = ImageRequest(**BASE), ImageRequest(**BASE | change)

    assert fingerprint(changed, **ACCOUNT) != fingerprint(base, **ACCOUNT)


@pytest.mark.parametrize("change", [{"conn_id": "studio"}, {"host": "127.0.0.1:8765"}], ids=str)
def test_another_account_is_another_fingerprint(change):
    assert fingerprint(REQUEST, **ACCOUNT | change) != ME


def test_parts_do_not_run_into_each_other():
    one = fingerprint(REQUEST, conn_id='a","b', host="c")
    two = fingerprint(REQUEST, conn_id="a", host='b","c')

    assert one != two


# What is on record


def test_an_empty_store_has_no_record_and_nothing_spent(ledger):
    fresh = ledger()

    assert fresh.find(ME) is None
    assert fresh.spent == Spent()
    assert not fresh.cleared


def test_looking_writes_nothing(ledger, store):
    ledger().find(ME)

    assert store.writes == []


def test_the_intent_holds_the_whole_request(ledger):
    request = ImageRequest(
        prompt="a red teapot",
        image_urls=["https://example.com/a.png"],
        aspect_ratio="3:2",
        resolution="2k",
        nsfw_checker=False,
        callback_url="https://example.com/hook",
    )

    ledger().intend(ME, request, now=NOW)

    record = ledger().find(ME)
    assert (record.state, record.intended_at, record.generation_id) == ("intent", NOW, None)
    assert record.request == request


def test_a_request_goes_from_intent_to_submitted_to_stored(ledger):
    ledger().intend(ME, REQUEST, now=NOW)
    ledger().submitted(ME, "g1", now=NOW + timedelta(seconds=1))
    ledger().stored(ME, {"generation_id": "g1"}, now=NOW + timedelta(seconds=9))

    record = ledger().find(ME)
    assert (record.state, record.generation_id, record.result) == ("stored", "g1", {"generation_id": "g1"})
    assert record.submitted_at == NOW + timedelta(seconds=1)
    assert record.settled_at == NOW + timedelta(seconds=9)
    assert record.request == REQUEST


def test_a_generation_that_failed_is_on_record_with_its_reason(ledger, submitted):
    ledger().failed(ME, "the prompt was refused", now=NOW)

    record = ledger().find(ME)
    assert (record.state, record.generation_id, record.failure) == ("failed", "g1", "the prompt was refused")


def test_after_a_failed_generation_a_new_intent_may_follow(ledger, submitted):
    ledger().failed(ME, "m", now=NOW)

    ledger().intend(ME, REQUEST, now=NOW)

    record = ledger().find(ME)
    assert (record.state, record.generation_id, record.failure) == ("intent", None, None)


@pytest.mark.parametrize("state", ["intent", "submitted", "stored"])
def test_an_intent_over_something_paid_for_has_to_be_decided(ledger, state):
    first = ledger()
    first.intend(ME, REQUEST, now=NOW)
    if state != "intent":
        first.submitted(ME, "g1", now=NOW)
    if state == "stored":
        first.stored(ME, {}, now=NOW)

    with pytest.raises(LedgerError, match=f"from '{state}' to 'intent'"):
        ledger().intend(ME, REQUEST, now=NOW)

    assert ledger().find(ME).state == state
    ledger().intend(ME, REQUEST, now=NOW, decided=True)
    assert ledger().find(ME).state == "intent"


@pytest.mark.parametrize(
    ("step", "arguments"), [("submitted", ["g1"]), ("stored", [{}]), ("failed", ["why"])]
)
def test_no_step_begins_from_nothing_but_the_intent(ledger, store, step, arguments):
    with pytest.raises(LedgerError, match=f"from 'nothing' to '{step}'"):
        getattr(ledger(), step)(ME, *arguments, now=NOW)

    assert store.writes == []


@pytest.mark.parametrize(("step", "arguments"), [("stored", [{}]), ("failed", ["why"])])
def test_nothing_is_settled_that_was_not_submitted(ledger, step, arguments):
    ledger().intend(ME, REQUEST, now=NOW)

    with pytest.raises(LedgerError, match=f"from 'intent' to '{step}'"):
        getattr(ledger(), step)(ME, *arguments, now=NOW)


@pytest.mark.parametrize("settled", ["stored", "failed"])
def test_a_settled_record_stays_as_it_is(ledger, submitted, settled):
    getattr(ledger(), settled)(ME, {} if settled == "stored" else "why", now=NOW)

    steps = {"submitted": "g2", "stored": {}, "failed": "why"}
    if settled == "stored":
        del steps["stored"]  # its files may land again
    for step, argument in steps.items():
        with pytest.raises(LedgerError):
            getattr(ledger(), step)(ME, argument, now=NOW)

    assert ledger().find(ME).generation_id == "g1"


def test_anothers_result_is_on_record_as_stored_and_has_cost_nothing(ledger):
    ledger().found(ME, REQUEST, {"generation_id": "g7"}, now=NOW)

    record = ledger().find(ME)
    assert (record.state, record.generation_id, record.result) == ("stored", "g7", {"generation_id": "g7"})
    assert ledger().spent.charged == 0


def test_anothers_result_is_not_taken_where_something_was_paid_for(ledger, submitted):
    with pytest.raises(LedgerError):
        ledger().found(ME, REQUEST, {"generation_id": "g7"}, now=NOW)


def test_records_belong_to_what_was_asked_for(ledger, submitted):
    assert ledger().find(YOU) is None


def test_a_changed_prompt_and_back_finds_both(ledger, submitted):
    ledger().intend(YOU, OTHER, now=NOW)
    ledger().submitted(YOU, "g2", now=NOW)

    assert ledger().find(ME).generation_id == "g1"
    assert ledger().find(YOU).generation_id == "g2"


def test_a_withdrawn_intent_leaves_the_ledger_as_it_was(ledger, store, submitted):
    before = store.document
    second = ledger()
    earlier = second.book()
    second.intend(YOU, OTHER, now=NOW)

    second.withdraw(earlier)

    assert store.document == before
    assert ledger().find(YOU) is None
    assert ledger().spent.net == Decimal("4.7")


def test_a_withdrawn_decision_leaves_what_was_paid_for_on_record(ledger, submitted):
    second = ledger()
    earlier = second.book()
    second.intend(ME, REQUEST, now=NOW, decided=True)

    second.withdraw(earlier)

    assert ledger().find(ME).generation_id == "g1"


# How it is kept


def test_every_step_is_one_write_of_one_document_that_never_expires(ledger, store):
    first = ledger()

    first.intend(ME, REQUEST, now=NOW)
    first.submitted(ME, "g1", now=NOW)
    first.wait(Waiting(fingerprint=ME, deadline=0, reused=False))
    first.stored(ME, {}, now=NOW)

    assert list(store.texts) == ["gpt_image/ledger"]
    assert len(store.writes) == 4
    assert store.retentions["gpt_image/ledger"] is NEVER_EXPIRE


def test_what_was_written_first_can_be_read_by_every_later_release():
    # Written by hand: version 1, as it lies in databases.
    store = Store()
    store.set(
        KEY,
        {
            "version": 1,
            "max_tries": 3,
            "spent": {"charged": "4.7", "refunded": "0"},
            "waiting": {"fingerprint": ME, "deadline": 1775383908.5, "reused": False},
            "records": {
                ME: {
                    "state": "submitted",
                    "request": {
                        "prompt": "a red teapot",
                        "image_urls": [],
                        "aspect_ratio": "auto",
                        "resolution": "1k",
                        "nsfw_checker": True,
                        "callback_url": None,
                    },
                    "max_tries": 3,
                    "intended_at": "2026-04-05T10:11:48Z",
                    "submitted_at": "2026-04-05T10:11:49Z",
                    "settled_at": None,
                    "generation_id": "397ce9f2-c04e-4244-ac33-3af19a7cc297",
                    "result": None,
                    "failure": None,
                }
            },
        },
    )

    ledger = Ledger(store, max_tries=3)

    record = ledger.find(ME)
    assert (record.state, record.request) == ("submitted", REQUEST)
    assert record.generation_id == "397ce9f2-c04e-4244-ac33-3af19a7cc297"
    assert ledger.spent.net == Decimal("4.7")


def test_what_is_written_says_which_version_it_is(ledger, store):
    ledger().intend(ME, REQUEST, now=NOW)

    assert store.document["version"] == 1


# What can't be read or written


def test_not_being_able_to_read_is_an_error_that_is_tried_again(ledger, store):
    store.unreachable = True

    with pytest.raises(LedgerError, match=r"could not be read .* not the same as an empty") as caught:
        ledger()

    assert caught.value.retryable
    assert isinstance(caught.value.__cause__, ConnectionError)


def test_not_being_able_to_write_is_an_error_that_is_tried_again(ledger, store):
    first = ledger()
    store.unreachable = True

    with pytest.raises(LedgerError, match="could not be written") as caught:
        first.intend(ME, REQUEST, now=NOW)

    assert caught.value.retryable


def test_what_could_not_be_written_is_not_taken_for_written(ledger, store):
    first = ledger()
    store.unreachable = True
    with pytest.raises(LedgerError):
        first.intend(ME, REQUEST, now=NOW)

    assert first.find(ME) is None
    assert first.spent == Spent()


def test_a_stale_worker_is_stopped_by_the_write_of_the_intent(ledger, store, submitted):
    store.replaced = True
    stale = ledger()
    assert stale.find(ME) is None  # so Airflow answers a task instance that was replaced

    with pytest.raises(LedgerError, match="this worker is out of date and stops here"):
        stale.intend(ME, REQUEST, now=NOW)

    store.replaced = False
    assert ledger().find(ME).generation_id == "g1"


@pytest.mark.parametrize("version", [0, 2, 99, "1", None])
def test_a_ledger_of_an_unknown_version_is_an_error_not_an_empty_one(ledger, store, submitted, version):
    store.set(KEY, store.document | {"version": version})

    with pytest.raises(LedgerError, match=f"version {version!r}; this release reads version 1. Upgrade"):
        ledger()


@pytest.mark.parametrize("junk", [[], "ledger", 5, True, {}, {"records": {}}], ids=repr)
def test_something_else_under_the_ledgers_key_is_an_error_not_an_empty_ledger(ledger, store, junk):
    store.set(KEY, junk)

    with pytest.raises(LedgerError, match="version None"):
        ledger()


@pytest.mark.parametrize(
    "damage",
    [
        {"max_tries": None},
        {"max_tries": "many"},
        {"spent": {"charged": "a lot"}},
        {"records": [1]},
        {"records": {ME: {"state": "paid"}}},
        {
            "records": {
                ME: {"state": "intent", "intended_at": "2026-04-05T10:11:48Z", "request": {}, "max_tries": 1}
            }
        },
        {"waiting": {"fingerprint": ME}},
        {"something": "new"},
    ],
    ids=str,
)
def test_a_ledger_that_makes_no_sense_is_an_error_not_an_empty_one(ledger, store, submitted, damage):
    store.set(KEY, store.document | damage)

    with pytest.raises(LedgerError, match="makes no sense"):
        ledger()


# What a try waits for


def test_what_a_try_waits_for_outlives_its_worker(ledger, submitted):
    waiting = Waiting(fingerprint=ME, deadline=1_775_387_508.25, reused=False)
    submitted.wait(waiting)

    assert ledger().waiting() == (waiting, submitted.find(ME))


def test_waiting_for_nothing_is_an_error_that_is_tried_again(ledger):
    with pytest.raises(LedgerError, match="does not say what this task waits for") as caught:
        ledger().waiting()

    assert caught.value.retryable


def test_waiting_for_what_is_not_on_record_is_an_error(ledger, submitted):
    submitted.wait(Waiting(fingerprint=YOU, deadline=0, reused=False))

    with pytest.raises(LedgerError, match="does not say what this task waits for"):
        ledger().waiting()


# Clears


@pytest.mark.parametrize(("max_tries", "cleared"), [(1, False), (2, True), (5, True), (0, False)])
def test_a_clear_raises_the_tries_and_any_doubt_is_a_retry(ledger, submitted, max_tries, cleared):
    assert ledger(max_tries).cleared is cleared


def test_the_first_try_follows_no_clear(ledger):
    assert not ledger(7).cleared


def test_a_clear_stays_one_until_something_is_put_on_record(ledger, submitted):
    assert ledger(2).cleared
    assert ledger(2).cleared

    ledger(2).wait(Waiting(fingerprint=ME, deadline=0, reused=True))

    assert not ledger(2).cleared


def test_a_withdrawn_intent_was_not_the_clears_so_the_next_try_still_follows_it(ledger, submitted):
    second = ledger(2)
    earlier = second.book()
    second.intend(ME, REQUEST, now=NOW, decided=True)

    second.withdraw(earlier)

    assert ledger(2).cleared


def test_fewer_tries_do_not_make_an_old_clear_a_new_one(ledger, submitted):
    # The DAG's author lowered `retries` meanwhile: a doubt, so a retry.
    ledger(0).wait(Waiting(fingerprint=ME, deadline=0, reused=True))

    assert not ledger(1).cleared


def test_what_was_paid_for_survives_a_clear(ledger, submitted):
    assert ledger(2).find(ME).generation_id == "g1"


# What was spent


def test_an_intent_counts_as_charged_for_nobody_knows(ledger):
    ledger().intend(ME, REQUEST, now=NOW)

    assert ledger().spent == Spent(charged=Decimal("4.7"))


def test_every_tier_is_charged_as_priced(ledger):
    first = ledger()

    first.intend(ME, REQUEST, now=NOW)
    first.intend(YOU, OTHER, now=NOW)

    assert ledger().spent.net == Decimal("14.1")


def test_a_failed_generation_is_refunded(ledger, submitted):
    ledger().failed(ME, "m", now=NOW)

    assert ledger().spent == Spent(charged=Decimal("4.7"), refunded=Decimal("4.7"))
    assert ledger().spent.net == 0


def test_an_unknown_submit_that_was_submitted_again_counts_twice(ledger):
    ledger().intend(ME, REQUEST, now=NOW)

    ledger().intend(ME, REQUEST, now=NOW, decided=True)

    assert ledger().spent.net == Decimal("9.4")


def test_a_clear_begins_to_count_anew(ledger, submitted):
    assert ledger(2).spent == Spent()

    ledger(2).intend(YOU, OTHER, now=NOW)

    assert ledger(2).spent == Spent(charged=Decimal("9.4"))


def test_a_refund_of_what_was_charged_before_the_clear_does_not_count_after_it(ledger, submitted):
    # Else a later max_credits would allow twice what it says: once for the refund, once for itself.
    ledger(2).wait(Waiting(fingerprint=ME, deadline=0, reused=True))

    ledger(2).failed(ME, "m", now=NOW)

    assert ledger(2).spent.net == 0
