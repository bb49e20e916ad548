"""Where Airflow's UI shows a task's images: the page of its *Images* tab, and the pictures themselves.

The addresses are paths on Airflow's own host, whatever name a browser reaches it by. Pictures come from the
destination through the API server, for whoever may see the Dag, if ``[gpt_image] gallery_roots`` has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlencode, urlsplit

if TYPE_CHECKING:
    from airflow.sdk.types import RuntimeTaskInstanceProtocol, TaskInstanceKey

URL_ROUTE: Final = "gpt-images-task-instance"
"""What the plugin calls the tab in addresses."""

PREFIX: Final = "gpt-image"
"""Where the plugin's own pages begin."""

# As Airflow's UI writes run ids; with these encoded it opens the tab and doesn't mark it.
_AS_THEY_ARE: Final = ":+@"


def images_tab(ti: TaskInstanceKey | RuntimeTaskInstanceProtocol) -> str:
    """Return the path of the tab that shows a task instance's images."""
    dag_id, run_id, task_id = _segments(ti)
    mapped = f"/mapped/{ti.map_index}" if ti.map_index is not None and ti.map_index >= 0 else ""
    tab = f"{_prefix()}/dags/{dag_id}/runs/{run_id}/tasks/{task_id}{mapped}/plugin/{URL_ROUTE}"
    if loop_index_of(ti) is None:
        return tab
    # By its ids alone Airflow's page doesn't find an instance of a loop.
    region = {"region_id": getattr(ti, "region_id", ""), "region_index": getattr(ti, "region_index", "")}
    return f"{tab}?{urlencode(region)}"


def stored_image(ti: TaskInstanceKey | RuntimeTaskInstanceProtocol, number: int = 0) -> str:
    """Return the path of an image that a task instance's result has, from 0 on."""
    dag_id, run_id, task_id = _segments(ti)
    index = instance_index(-1 if ti.map_index is None else ti.map_index, loop_index_of(ti))
    return f"{_prefix()}/{PREFIX}/result/{dag_id}/{run_id}/{task_id}/{index}/{number}"


def instance_index(map_index: int, loop_index: int | None) -> str:
    """Return what tells a task's instances of a run apart, as our addresses have it: ``3``, ``loop-2-3``."""
    if loop_index is None:
        return str(map_index)
    return f"loop-{loop_index}" if map_index < 0 else f"loop-{loop_index}-{map_index}"


def loop_index_of(ti: object) -> int | None:
    """Return the iteration of a Task Loop (Airflow 3.4) that a running task instance is of; None: of none."""
    context = getattr(ti, "get_template_context", None)
    loop = None if context is None else context().get("loop")
    return None if loop is None else int(loop.index)


def where_to_look(ti: TaskInstanceKey | RuntimeTaskInstanceProtocol) -> str:
    """Return the log's last line: the tab's whole address, as far as Airflow's configuration tells it."""
    host = urlsplit(_base_url())
    origin = f"{host.scheme}://{host.netloc}" if host.netloc else ""
    return f"Images: {origin}{images_tab(ti)}"


def _segments(ti: TaskInstanceKey | RuntimeTaskInstanceProtocol) -> tuple[str, str, str]:
    dag_id, run_id, task_id = (quote(part, safe=_AS_THEY_ARE) for part in (ti.dag_id, ti.run_id, ti.task_id))
    return dag_id, run_id, task_id


def _base_url() -> str:
    from airflow.sdk.configuration import conf

    return str(conf.get("api", "base_url", fallback=None) or "")


def _prefix() -> str:
    return urlsplit(_base_url()).path.rstrip("/")
