"""The receiver of callbacks as a plugin: Airflow imports it everywhere, so it loads nothing before a call."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from airflow_gpt_image.plugins.made_when_asked import MadeWhenAsked


class CallbacksPlugin(AirflowPlugin):
    """Receives what the API notifies of a generation's end, and wakes the task that waits for it."""

    name = "gpt_image_callbacks"
    fastapi_apps = [  # noqa: RUF012  # Airflow's base class has them so
        {
            "app": MadeWhenAsked("airflow_gpt_image.plugins.callbacks.receiver"),
            "url_prefix": "/gpt-image-callbacks",
            "name": "GPT Image callbacks",
        }
    ]
