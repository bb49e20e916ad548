"""Waking in Airflow's own database: which task, when, and once; and where a told id is kept."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.api.pricing import Prices
from airflow_gpt_image.callbacks import Callback
from airflow_gpt_image.ledger.payer import Payer, Slot
from airflow_gpt_image.ledger.record import intend
from airflow_gpt_image.ledger.submitting import intent_digest
from airflow_gpt_image.ledger.task_state import IMAGE_KEY, ImageTaskState, told_key
from airflow_gpt_image.triggers.gpt_image import CALLBACK_EVENT, GptImageTrigger, WaitedEvent
from airflow_gpt_image.triggers.tally import SoFar

INTENT = "a" * 32
LONG_AGO = 3600.0


class Waiting:
    """A task instance in the database that waits, or does something else."""

    def __init__(self, dag_id="first_image", task_id="poster"):
        from airflow.models.serialized_dag import SerializedDagModel
        from airflow.utils.session import create_session
        from airflow.utils.state import DagRunState
        from airflow.utils.types import DagRunTriggeredByType, DagRunType

        with create_session() as session:
            run = SerializedDagModel.get_dag(dag_id, session=session).create_dagrun(
                run_id=f"manual__{uuid4().hex}",
                run_after=datetime.now(UTC),
                run_type=DagRunType.MANUAL,
                triggered_by=DagRunTriggeredByType.TEST,
                state=DagRunState.RUNNING,
                session=session,
            )
            (self.id,) = [ti.id for ti in run.task_instances if ti.task_id == task_id]

    def change(self, **fields):
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.session import create_session
        from sqlalchemy import update

        with create_session() as session:
            session.execute(update(TaskInstance).where(TaskInstance.id == self.id).values(**fields))

    def defer(self, callback=INTENT, age=LONG_AGO, trigger=None):
        """Have it wait for so many seconds already."""
        from airflow.models.trigger import Trigger
        from airflow.utils.session import create_session

        waits = trigger or GptImageTrigger(
            gpt_image_conn_id="gpt_image_default",
            generation_ids=["an-id"],
            deadline=0.0,
            poll_interval=60.0,
            so_far=SoFar(since=0.0, callback=callback).model_dump(exclude_none=True),
        )
        row = Trigger.from_object(waits)
        row.created_date = datetime.now(UTC) - timedelta(seconds=age)
        with create_session() as session:
            session.add(row)
            session.flush()
            trigger_id = row.id
        self.change(state="deferred", trigger_id=trigger_id, next_method="execute_complete", next_kwargs={})
        return self

    def row(self):
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.session import create_session

        with create_session() as session:
            return session.get(TaskInstance, self.id)

    @property
    def state(self):
        return str(self.row().state)

    def retry(self):
        """As the scheduler does it: the try is history, and the task instance has another id."""
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.session import create_session

        before = self.id
        with create_session() as session:
            ti = session.get(TaskInstance, self.id)
            ti.prepare_db_for_next_try(session)
            session.flush()
            self.id = ti.id
        return before

    def kept(self, key):
        """What the worker's accessor would read under a key, or None."""
        from airflow.state import TaskScope, get_state_backend

        row = self.row()
        text = get_state_backend().get(TaskScope(row.dag_id, row.run_id, row.task_id, row.map_index), key)
        return None if text is None else json.loads(text)

    def keep(self, key, value):
        from airflow.state import TaskScope, get_state_backend

        row = self.row()
        scope = TaskScope(row.dag_id, row.run_id, row.task_id, row.map_index)
        get_state_backend().set(scope, key, json.dumps(value))


@pytest.fixture
def task(dags):
    return Waiting()


def receive(ti_id, intent=INTENT, generation_id=None):
    from airflow_gpt_image.plugins.callbacks.waking import receive

    return receive(Callback(ti_id, intent), generation_id)


def test_a_task_that_waits_is_woken_once(task):
    task.defer()

    assert [receive(task.id) for _ in range(3)] == ["woken", "not waiting", "not waiting"]
    assert (task.state, task.row().trigger_id) == ("scheduled", None)


def test_it_goes_on_in_the_method_it_named_and_hears_that_a_callback_came(task):
    from airflow.sdk.serde import deserialize

    task.defer()
    receive(task.id)

    row = task.row()
    event = deserialize(row.next_kwargs)["event"]
    assert (row.next_method, event) == ("execute_complete", CALLBACK_EVENT)
    assert WaitedEvent.told(event) == "the API called back."


def test_of_many_callbacks_at_the_same_time_one_wakes_it(task):
    task.defer()

    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(lambda _: _or_error(task.id), range(8)))

    assert outcomes.count("woken") == 1
    assert task.state == "scheduled"


def _or_error(ti_id):
    from sqlalchemy.exc import OperationalError

    try:
        return receive(ti_id)
    except OperationalError as error:  # sqlite has one writer, and some give up waiting for it
        return str(error)


@pytest.mark.parametrize("state", ["running", "success", "failed", "scheduled", "up_for_retry", None])
def test_a_task_that_does_not_wait_is_left_alone(task, state):
    task.defer()
    task.change(state=state)

    assert receive(task.id) == "not waiting"
    assert task.state == str(state)


def test_a_task_that_nobody_knows_is_no_error(dags):
    assert receive(uuid4()) == "not waiting"
    assert receive(uuid4(), generation_id="an-id") == "not waiting"


@pytest.mark.parametrize("callback", [None, "b" * 32])
def test_a_task_that_expects_no_callback_or_another_ones_is_left_alone(task, callback):
    task.defer(callback=callback)

    assert receive(task.id) == "not waiting"
    assert task.state == "deferred"


def test_a_trigger_of_somebody_else_is_left_alone(task):
    from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger

    task.defer(trigger=TimeDeltaTrigger(timedelta(hours=1)))

    assert receive(task.id) == "not waiting"
    assert task.state == "deferred"


def test_a_task_whose_worker_may_still_be_leaving_is_not_woken_yet(task):
    task.defer(age=3)

    assert receive(task.id) == "too early"
    assert task.state == "deferred"


def test_after_a_retry_the_address_of_the_try_before_wakes_nobody(task):
    before = task.retry()
    task.defer()

    assert receive(before) == "not waiting"
    assert task.state == "deferred"
    assert receive(task.id) == "woken"


# What a callback told


def intent(state="intent"):
    payer = Payer(dag_id="first_image", run_id="r", task_id="poster", clear_epoch=3, attempt=1)
    now = datetime.now(UTC)
    made = intend(
        ImageRequest(prompt="a red teapot"),
        "0" * 64,
        Slot(),
        before=None,
        payer=payer,
        prices=Prices(),
        now=now,
        answer_by=now,
    )
    return made if state == "intent" else made.submitted("the-id-on-record", now)


def keep_record(task, record):
    task.keep(IMAGE_KEY, ImageTaskState(clear_epoch=3, records=(record,)).model_dump(mode="json"))


def test_an_id_that_the_record_lacks_is_kept_for_the_next_try(task):
    record = intent()
    keep_record(task, record)
    before = task.retry()

    receive(before, intent_digest(record), "the-id")

    assert task.kept(told_key(intent_digest(record))) == {"version": 1, "generation_id": "the-id"}


def test_the_first_id_stays(task):
    for generation_id in ("the-id", "another"):
        receive(task.id, generation_id=generation_id)

    assert task.kept(told_key(INTENT))["generation_id"] == "the-id"


def test_an_id_that_is_on_record_is_not_kept_again(task):
    record = intent("submitted")
    keep_record(task, record)

    receive(task.id, intent_digest(record), "another")

    assert task.kept(told_key(intent_digest(record))) is None


@pytest.mark.parametrize("junk", [[], {"version": 99}, "x"])
def test_whatever_the_task_state_holds_the_id_is_kept(task, junk):
    task.keep(IMAGE_KEY, junk)

    receive(task.id, generation_id="the-id")

    assert task.kept(told_key(INTENT))["generation_id"] == "the-id"


def test_the_records_themselves_are_not_touched(task):
    record = intent()
    keep_record(task, record)
    before = task.kept(IMAGE_KEY)

    receive(task.id, intent_digest(record), "the-id")

    assert task.kept(IMAGE_KEY) == before
