"""The Images tab as a plugin: Airflow imports it everywhere, so it loads nothing before a request."""

from __future__ import annotations

from typing import Any, Final

import airflow
from airflow.plugins_manager import AirflowPlugin

from airflow_gpt_image.plugins.made_when_asked import MadeWhenAsked

# Airflow's own address is put in front: these are relative to it.
_PREFIX: Final = "gpt-image"
_ICONS: Final = {
    "icon": f"{_PREFIX}/static/icons/icon.svg",
    "icon_dark_mode": f"{_PREFIX}/static/icons/icon-dark.svg",
}

# As Airflow's pages have it of a task: the class, or a decorator's name.
_OPERATORS: Final = (
    "GptImageGenerateOperator",
    "GptImageBatchOperator",
    "GptImageSensor",
    "@task.gpt_image",
    "@task.gpt_image_batch",
)
# Airflow 3.4 shows a view only where this applies; 3.3 shows it everywhere.
_OURS: Final = {"applies_to": {"operator_name": list(_OPERATORS)}}

# 3.3 refuses all plugins where a view has a destination that it doesn't know.
_KNOWS_ASSETS: Final = tuple(int(part) for part in airflow.__version__.split(".")[:2]) >= (3, 4)


def _view(destination: str, name: str, page: str, **more: Any) -> dict[str, Any]:
    # Each has a route of its own: of two with the same one Airflow shows the first for both.
    route = f"gpt-images-{destination.replace('_', '-')}"
    href = f"{_PREFIX}/{page}"
    return {"name": name, "href": href, "destination": destination, "url_route": route, **_ICONS, **more}


def _views() -> list[dict[str, Any]]:
    views = [
        _view("task_instance", "Images", "task/{DAG_ID}/{RUN_ID}/{TASK_ID}/{MAP_INDEX}", **_OURS),
        _view("task", "Images", "task-runs/{DAG_ID}/{TASK_ID}", **_OURS),
        _view("dag_run", "Images", "run/{DAG_ID}/{RUN_ID}"),
        _view("dag", "Images", "dag/{DAG_ID}"),
        _view("nav", "Images", "all", nav_top_level=True),
    ]
    return [*views, _view("asset", "Images", "asset/{ASSET_ID}")] if _KNOWS_ASSETS else views


class ImagesPlugin(AirflowPlugin):
    """Shows the images that tasks make: a tab of each task, run and Dag, and a page of the latest ones."""

    name = "gpt_image_images"
    external_views = _views()
    fastapi_apps = [  # noqa: RUF012  # Airflow's base class has them so
        {
            "app": MadeWhenAsked("airflow_gpt_image.plugins.images.app"),
            "url_prefix": f"/{_PREFIX}",
            "name": "GPT Image's images",
        }
    ]
