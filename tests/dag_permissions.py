"""An auth manager that knows who may read which Dag, as those of real deployments do."""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

MAY_READ = {
    "shopkeeper": {"shop"},
    "vera": {"choose_picture"},
    "auditor": {"shop", "books"},
    "visitor": set(),
}
"""Which Dags each user may read; all but the auditor may read their results, too. An admin may do all."""


class DagPermissions(SimpleAuthManager):
    """Airflow's simple one, but for Dags and assets."""

    def is_authorized_dag(
        self, *, method: str, user: Any, access_entity: Any = None, details: Any = None
    ) -> bool:
        if user.role == "admin":
            return super().is_authorized_dag(
                method=method, user=user, access_entity=access_entity, details=details
            )
        if access_entity == DagAccessEntity.XCOM and user.username == "auditor":
            return False
        dag_id = details.id if details else None
        return method == "GET" and (dag_id is None or dag_id in MAY_READ.get(user.username, ()))

    def is_authorized_asset(self, *, method: str, user: Any, details: Any = None) -> bool:
        return method == "GET" and user.username != "visitor"
