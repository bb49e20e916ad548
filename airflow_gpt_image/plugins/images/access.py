"""
Ask Airflow who somebody is and what they may read: its own permissions, and none of ours.

What the pages show is a task's result, so it takes what reading XComs takes: the permission to read the Dag
and that to read XComs. It may ask the database, so it is called in a thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.managers.models.resource_details import (
    AssetDetails,
    ConnectionDetails,
    DagAccessEntity,
    DagDetails,
)
from airflow.models.connection import Connection
from airflow.models.dag import DagModel


def may_read(user: BaseUser, dag_id: str) -> bool:
    """Return whether somebody may read a Dag's results. Of a Dag that isn't there Airflow says the same."""
    # "~" is Airflow's word for all of them, and PostgreSQL refuses to be asked for a text with a NUL.
    if not dag_id or dag_id == "~" or "\0" in dag_id:
        return False
    details = DagDetails(id=dag_id, team_name=DagModel.get_team_name(dag_id))
    allowed: Callable[..., Any] = get_auth_manager().is_authorized_dag
    return bool(
        allowed(method="GET", details=details, user=user)
        and allowed(method="GET", access_entity=DagAccessEntity.XCOM, details=details, user=user)
    )


def readable_dags(user: BaseUser) -> set[str]:
    """Return the ids of the Dags whose results somebody may read, as Airflow's own lists decide it."""
    manager: Any = get_auth_manager()
    results = manager.is_authorized_dag(
        method="GET", access_entity=DagAccessEntity.XCOM, details=DagDetails(id=None), user=user
    )
    return set(manager.get_authorized_dag_ids(user=user, method="GET")) if results else set()


def may_read_asset(user: BaseUser, asset_id: str) -> bool:
    """Return whether somebody may read an asset; its events are the Dags' own."""
    manager: Any = get_auth_manager()
    return bool(manager.is_authorized_asset(method="GET", details=AssetDetails(id=asset_id), user=user))


def may_read_connection(user: BaseUser, conn_id: str) -> bool:
    """Return whether somebody may read a connection, and so what its account has left."""
    if not conn_id:
        return False
    manager: Any = get_auth_manager()
    details = ConnectionDetails(conn_id=conn_id, team_name=Connection.get_team_name(conn_id))
    return bool(manager.is_authorized_connection(method="GET", details=details, user=user))
