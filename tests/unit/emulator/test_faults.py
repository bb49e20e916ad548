"""The fault language, and whose turn it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_gpt_image.emulator.fault_kinds import KINDS, described
from airflow_gpt_image.emulator.faults import Fault, FaultRegister

READ = {
    "submit:503": Fault("submit", "503"),
    "submit:503*2": Fault("submit", "503", times=2),
    "submit:spend-limit-exceeded": Fault("submit", "spend_limit_exceeded"),
    "get:late=0.5*3;match=a red;after=1;share=0.25": Fault(
        "get", "late", 0.5, times=3, match="a red", after=1, share=0.25
    ),
    "submit:429;retry_after=date:3": Fault("submit", "429", retry_after="date:3"),
    "submit:500*1;accepted=yes;delay=2": Fault("submit", "500", times=1, accepted=True, delay=2),
    "file:redirect=https://example.com/a?b=c*2;status=302": Fault(
        "file", "redirect", "https://example.com/a?b=c", times=2, status=302
    ),
    'get:200;body={"id": 1};content_type=text/plain': Fault(
        "get", "200", body='{"id": 1}', content_type="text/plain"
    ),
    "submit:gateway=502*1;form=type": Fault("submit", "gateway", 502, times=1, form="type"),
    "get:gateway;form=envelope;status=200": Fault("get", "gateway", 504, form="envelope", status=200),
    "submit:repeated_id;accepted=no": Fault("submit", "repeated_id", 1, accepted=False),
    "file:close;lasts=40": Fault("file", "close", lasts=40),
    "generation:failed": Fault("generation", "failed", "upstream_error"),
    "file:wrong_size=640x480": Fault("file", "wrong_size", "640x480"),
}


@pytest.mark.parametrize("spec", READ)
def test_a_fault_is_read_from_text(spec):
    fault = Fault.parse(spec)

    assert fault == READ[spec]


@pytest.mark.parametrize("spec", READ)
def test_a_fault_prints_as_it_is_written(spec):
    fault = Fault.parse(spec)

    assert Fault.parse(str(fault)) == fault


@given(
    kind=st.sampled_from(["close", "503", "upstream_error", "truncated"]),
    times=st.none() | st.integers(0, 99),
    after=st.integers(0, 99),
    share=st.floats(0.001, 1),
    match=st.none() | st.text(st.characters(exclude_characters=";", exclude_categories=["Cs"]), min_size=1),
    accepted=st.none() | st.booleans(),
    delay=st.floats(0, 1000),
)
def test_any_fault_survives_being_written_down(kind, times, after, share, match, accepted, delay):
    fault = Fault(
        "submit", kind, times=times, after=after, share=share, match=match, accepted=accepted, delay=delay
    )

    assert Fault.parse(str(fault)) == fault


REFUSED = {
    "503": "is not a fault; write it like",
    "submit:": "is not a fault; write it like",
    "upload:503": "'upload' is not a place for a fault; one of submit, get",
    "submit:wrong_id": "'wrong_id' is not a fault of submit; one of close",
    "get:nonsense": "or a code of the error table or an HTTP status.",
    "generation:503": "'503' is not a fault of generation; one of failed",
    "get:199": "is not a fault of get",
    "get:late": "get:late: it needs a value.",
    "get:late=soon": "'soon' is not a number of seconds",
    "get:late=-1": "0 or more",
    "get:late=nan": "0 or more",
    "get:close=1": "it takes no value",
    "get:503=1": "it takes no value",
    "get:503;often=2": "is not an option; one of times, after",
    "get:503;times": "is not an option",
    "get:503*2;times=2": "once each",
    "get:503;times=-1": "times: '-1' is not a whole number",
    "get:503;share=0": "is not a share, more than 0 to 1",
    "get:503;share=2": "is not a share, more than 0 to 1",
    "get:503;accepted=yes": "accepted has no effect here; leave it out",
    "submit:503;accepted=perhaps": "is not yes or no",
    "credits:503;match=cat": "match has no effect here",
    "generation:never;delay=1": "delay has no effect here",
    "get:close;retry_after=1": "retry_after has no effect here",
    "get:close;body=x": "body has no effect here",
    "get:503;status=302": "status has no effect here",
    "get:503;lasts=soon": "lasts: 'soon' is not a number of seconds",
    "submit:503;form=page": "form has no effect here",
    "submit:gateway=99": "is not a status, 200 to 599",
    "submit:gateway;form=xml": "is not a form; one of error, type, envelope, page",
    "submit:gateway;body=x": "body has no effect here",
    "get:repeated_id": "is not a fault of get",
    "submit:repeated_id=0": "is not a number of submits, 1 or more",
    "file:redirect=https://example.com;status=200": "is not the status of a redirect",
    "file:redirect=elsewhere": "no http(s) address",
    "file:wrong_size=big": "is not a pixel size",
    "file:wrong_size=99999x99999": "at most 8192",
    "generation:never=completed": "is not a stage; pending or processing",
    "generation:images=0": "is not a number of images",
    "submit:429;retry_after=sö": "can't stand in a header",
    "submit:429;retry_after=date:x": "is not a number of seconds",
}


@pytest.mark.parametrize("spec", REFUSED)
def test_what_is_no_fault_is_refused_with_the_rule(spec):
    with pytest.raises(ValueError) as refusal:  # noqa: PT011  (the message is compared below)
        Fault.parse(spec)

    assert REFUSED[spec] in str(refusal.value)


def test_a_fault_is_read_from_json_too():
    fault = Fault.read({"where": "get", "kind": "503", "times": 2, "match": "cat; dog"})

    assert fault == Fault("get", "503", times=2, match="cat; dog")


@pytest.mark.parametrize("form", [5, None, {"where": "get"}, {"where": "get", "kind": "503", "often": 2}])
def test_other_json_is_no_fault(form):
    with pytest.raises(ValueError, match="is not a fault; give a text, or an object of"):
        Fault.read(form)


def register(*specs, seed=0):
    faults = FaultRegister(seed)
    for spec in specs:
        faults.add(Fault.parse(spec))
    return faults


def taken(faults, where="get", prompt="a cat", times=1):
    kinds = []
    for _ in range(times):
        fault = faults.take(where, prompt)
        kinds.append(fault and fault.kind)
    return kinds


def test_a_fault_meets_as_many_as_it_should():
    faults = register("get:503*2")

    assert taken(faults, times=4) == ["503", "503", None, None]


def test_a_fault_without_times_meets_all():
    faults = register("get:503")

    assert taken(faults, times=3) == ["503", "503", "503"]


def test_faults_have_their_turn_in_the_order_of_registration():
    faults = register("get:503*1", "get:close*1", "get:500*1")

    assert taken(faults, times=4) == ["503", "close", "500", None]


def test_after_lets_the_first_pass():
    faults = register("get:503*1;after=2")

    assert taken(faults, times=4) == [None, None, "503", None]


def test_a_fault_meets_only_the_prompts_it_names():
    faults = register("get:503;match=dog")

    assert taken(faults, prompt="a cat") == [None]
    assert taken(faults, prompt=None) == [None]
    assert taken(faults, prompt="two dogs") == ["503"]


def test_a_fault_meets_only_its_place():
    faults = register("get:503")

    assert taken(faults, where="submit") == [None]


def test_a_fault_can_last_for_some_seconds_from_the_first_request_it_meets():
    now = 1000.0
    faults = FaultRegister(0, lambda: now)
    faults.add(Fault.parse("get:503;lasts=40;after=1"))
    kinds = []

    for now in (1000.0, 1100.0, 1139.9, 1140.0, 1500.0):  # noqa: B007  (the register's clock reads it)
        kinds += taken(faults)

    assert kinds == [None, "503", "503", None, None]


def test_a_share_is_met_by_chance_and_the_same_for_the_same_seed():
    once = taken(register("get:503;share=0.3", seed=1), times=1000)
    again = taken(register("get:503;share=0.3", seed=1), times=1000)
    other = taken(register("get:503;share=0.3", seed=2), times=1000)

    assert 230 < once.count("503") < 370
    assert once == again
    assert once != other


def test_a_fault_about_completed_generations_waits_for_one():
    faults = register("get:no_urls*1")

    early, late = faults.take("get", "x", completed=False), faults.take("get", "x", completed=True)

    assert (early, late and late.kind) == (None, "no_urls")


def test_a_fault_about_an_earlier_submit_waits_until_there_is_one():
    faults = register("submit:repeated_id*1")

    first = faults.take("submit", "x")
    second = faults.take("submit", "x", earlier=lambda fault: "an-id")

    assert (first, second and second.kind) == (None, "repeated_id")


def test_the_report_counts_what_was_met():
    faults = register("get:503*2", "get:close")
    taken(faults, times=3)

    assert faults.report() == [{"fault": "get:503*2", "met": 2}, {"fault": "get:close", "met": 1}]


def test_the_help_names_every_kind():
    text = described()

    assert all(name in text for name in KINDS)
    assert "{value}" not in text
