"""
Wake a deferred task, and keep what a callback told: the only place that does so in Airflow's database.

There is no public call for it. What is used is the same from Airflow 3.3.0 to 3.4: ``Trigger.submit_event``,
the models ``TaskInstance`` and ``Trigger``, and ``get_state_backend``, through which workers reach the task
state store. Everything here blocks, so it is called in a thread.

1. A task instance is found by its id. After a retry or a clear it has another one, and nothing is woken.
2. Only a task is woken that waits in a trigger of ours which expects this very callback.
3. It is woken once, however many callbacks come at the same time: sqlite has no row locks, so a conditional
   UPDATE decides, on every database.
4. It is not woken before the worker that deferred has surely gone: Airflow would take that one for killed.
   The trigger polls right after that moment, so what came too early is found then.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger
from airflow.state import TaskScope, get_state_backend
from airflow.triggers.base import TriggerEvent
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState
from pydantic import ValidationError
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from airflow_gpt_image.callbacks import Callback
from airflow_gpt_image.errors import GptImageError
from airflow_gpt_image.ledger.submitting import intent_digest
from airflow_gpt_image.ledger.task_state import IMAGE_KEY, ImageTaskState, ToldId, told_key
from airflow_gpt_image.triggers.gpt_image import CALLBACK_EVENT, GptImageTrigger, defer_grace_seconds

Outcome = Literal["woken", "not waiting", "too early"]

_CLASSPATH: Final = f"{GptImageTrigger.__module__}.{GptImageTrigger.__name__}"

# Airflow 3.3 keeps earlier tries in a table of their own; 3.4 keeps them in the same one, where they have to
# be asked for, and tells task instances by a region, too.
_EVERY_TRY: Final = {"include_all_attempts": True}
_HAS_REGIONS: Final = hasattr(TaskInstance, "region_id")

# Nobody needs it any more when the generation itself is forgotten.
_KEPT: Final = timedelta(days=30)


def receive(callback: Callback, generation_id: str | None) -> Outcome:
    """
    Keep a generation's id where its submit has none on record, and wake the task.

    :param generation_id: as the notification's body has it; None: nothing there can be one.
    """
    if generation_id is not None:
        with create_session() as session:
            _keep_id(session, callback, generation_id)
    with create_session() as session:
        return _wake(session, callback)


def _wake(session: Session, callback: Callback) -> Outcome:
    waits = (TaskInstance.id == callback.ti_id, TaskInstance.state == TaskInstanceState.DEFERRED)
    trigger_id = session.scalar(select(TaskInstance.trigger_id).where(*waits))
    trigger = None if trigger_id is None else session.get(Trigger, trigger_id)
    if trigger is None or trigger.classpath != _CLASSPATH or _expects(trigger) != callback.intent:
        return "not waiting"
    now = datetime.now(UTC)
    if now - trigger.created_date < timedelta(seconds=defer_grace_seconds()):
        return "too early"
    taken: Any = session.execute(
        update(TaskInstance)
        .where(*waits, TaskInstance.trigger_id == trigger_id)
        .values(updated_at=now)
        .execution_options(synchronize_session=False)
    )
    if taken.rowcount != 1:
        return "not waiting"
    Trigger.submit_event(trigger_id, TriggerEvent(CALLBACK_EVENT), session=session)  # type: ignore[no-untyped-call]
    return "woken"


def _expects(trigger: Trigger) -> object:
    """Return which callback may end a trigger's wait; None when none may, or its arguments can't be read."""
    so_far = trigger.kwargs.get("so_far")
    return so_far.get("callback") if isinstance(so_far, dict) else None


def _keep_id(session: Session, callback: Callback, generation_id: str) -> None:
    """
    Keep an id under a key of its own, unless the submit's record is known to have one.

    The record itself is the worker's to write; it checks the id before it believes it. The first id stays.
    """
    scope = _scope(session, callback)
    if scope is None:
        return
    store, key = get_state_backend(), told_key(callback.intent)
    if _is_settled(store.get(scope, IMAGE_KEY, session=session), callback.intent):
        return
    if store.get(scope, key, session=session) is None:
        told = ToldId(generation_id=generation_id).model_dump_json()
        store.set(scope, key, told, expires_at=datetime.now(UTC) + _KEPT, session=session)


def _is_settled(text: str | None, intent: str) -> bool:
    try:
        state = ImageTaskState.model_validate(json.loads(text or "null"))
    except (ValidationError, GptImageError, ValueError, RecursionError):
        return False
    return any(record.state != "intent" for record in state.records if intent_digest(record) == intent)


def _scope(session: Session, callback: Callback) -> TaskScope | None:
    """Return where the task state store has what the task instance keeps, whichever its try is by now."""
    query = select(TaskInstance).where(TaskInstance.id == callback.ti_id)
    found: Any = session.scalar(query.execution_options(**_EVERY_TRY))
    if found is None and not _HAS_REGIONS:
        from airflow.models.taskinstancehistory import TaskInstanceHistory

        found = session.scalar(
            select(TaskInstanceHistory).where(TaskInstanceHistory.task_instance_id == callback.ti_id)
        )
    if found is None:
        return None
    region = {"region_id": found.region_id} if _HAS_REGIONS else {}
    return TaskScope(found.dag_id, found.run_id, found.task_id, found.map_index, **region)
