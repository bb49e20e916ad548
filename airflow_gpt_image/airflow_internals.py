"""
What we need of Airflow and nothing public gives: the only place that imports it from private modules.

``ResolveMixin``
    A value of a template field that Airflow asks for what it depends on and for what it is at run time. Rows
    that were written down in a DAG file need that, for there may be other tasks' results among them. Its one
    public subclass, ``airflow.sdk.XComArg``, is the result of a task, which rows are not.
``SetDuringExecution``, ``SET_DURING_EXECUTION``
    The value of a template field that nobody knows before the task runs, as Airflow's own decorators set it:
    the serialised DAG shows it as dynamic. Any object of ours would be written into the DAG as text.
``partial_arguments``
    Whether an operator was made by ``expand()``, which hands its constructor other tasks' results as if they
    stood in the DAG file. Airflow's own decorators ask the same attribute.

All have been the same from Airflow 3.3.0 to 3.4.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.definitions._internal.mixins import ResolveMixin
from airflow.sdk.definitions._internal.types import SET_DURING_EXECUTION, SetDuringExecution

__all__ = ["SET_DURING_EXECUTION", "ResolveMixin", "SetDuringExecution", "partial_arguments"]


def partial_arguments(operator: BaseOperator) -> Mapping[str, Any] | None:
    """Return what ``partial()`` was given, of an operator that ``expand()`` made; None of any other one."""
    known = operator.dag.task_dict.get(operator.task_id) if operator.has_dag() else None  # type: ignore[no-untyped-call]
    partial: Mapping[str, Any] | None = getattr(known, "partial_kwargs", None)
    if partial is None and getattr(operator, "_BaseOperator__from_mapped", False):
        return {}
    return partial
