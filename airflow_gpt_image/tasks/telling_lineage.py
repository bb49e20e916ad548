"""What OpenLineage's provider calls on an operator of ours. Without that provider nobody does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

# The rest is imported when it is asked for: a DAG file is parsed over and over.
if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_gpt_image.tasks.lineage import TaskLineage


class TellsLineage:
    """The methods of an operator that OpenLineage's provider calls."""

    def lineage(self) -> TaskLineage:
        """Return what is known of the task by now."""
        raise NotImplementedError

    def get_openlineage_facets_on_start(self) -> OperatorLineage[Any, Any]:
        """Return what is known before the task has run."""
        return self._openlineage()

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Return what a task that succeeded read and stored."""
        return self._openlineage()

    def get_openlineage_facets_on_failure(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Return what a task that failed read and stored, and what it has paid for."""
        return self._openlineage()

    def _openlineage(self) -> OperatorLineage[Any, Any]:
        from airflow_gpt_image.tasks.lineage import openlineage

        return openlineage(self.lineage())
