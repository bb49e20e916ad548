"""Everything of Airflow that has no public name, in one place.

A data set in a DAG file may hold other tasks' results wherever they stand. Airflow finds what it has to
resolve in a template field by these two classes; ``airflow.sdk`` exports neither (3.3.0 to 3.4.0b2).
"""

from __future__ import annotations

from airflow.sdk.definitions._internal.mixins import ResolveMixin
from airflow.sdk.definitions._internal.types import SET_DURING_EXECUTION, SetDuringExecution

__all__ = ["SET_DURING_EXECUTION", "ResolveMixin", "SetDuringExecution"]
