"""What Airflow is told of the Images tab: cheap to import, and every view leads somewhere."""

from __future__ import annotations

from importlib.metadata import entry_points
from importlib.resources import files

import airflow
import pytest
from airflow.api_fastapi.core_api.datamodels.plugins import ExternalViewResponse

from airflow_gpt_image.decorators.gpt_image import (
    _GptImageBatchDecoratedOperator,
    _GptImageDecoratedOperator,
)
from airflow_gpt_image.operators.batch import GptImageBatchOperator
from airflow_gpt_image.operators.gpt_image import GptImageGenerateOperator
from airflow_gpt_image.plugins.images import addresses
from airflow_gpt_image.plugins.images.documents.places import Place
from airflow_gpt_image.plugins.images.plugin import ImagesPlugin
from airflow_gpt_image.provider_info import get_provider_info
from airflow_gpt_image.sensors.gpt_image import GptImageSensor
from airflow_gpt_image.tasks import pages
from tests.unit.test_imports import loaded_by

VIEWS = {view["destination"]: view for view in ImagesPlugin.external_views}
IS_3_4 = tuple(map(int, airflow.__version__.split(".")[:2])) >= (3, 4)


@pytest.mark.parametrize(
    ("plugin", "own"), [("images", {"plugins.images"}), ("callbacks", {"plugins.callbacks"})]
)
def test_importing_a_plugin_loads_itself_and_nothing_it_needs_later(plugin, own):
    # Every process of Airflow does it, those that run tasks too.
    modules = loaded_by(
        f"import airflow_gpt_image.plugins.{plugin}.plugin",
        after="import airflow; from airflow.plugins_manager import AirflowPlugin",
    )

    ours = {
        name.removeprefix("airflow_gpt_image.") for name in modules if name.startswith("airflow_gpt_image.")
    }
    assert ours == {"plugins", f"plugins.{plugin}.plugin", "plugins.made_when_asked", *own}
    others = {name for name in modules if not name.startswith("airflow_gpt_image")}
    assert others == set()


def test_airflow_finds_the_plugin_by_its_entry_point():
    (found,) = [entry for entry in entry_points(group="airflow.plugins") if entry.name == "gpt_image_images"]

    assert found.load() is ImagesPlugin


def test_a_tasks_links_and_its_log_lead_to_where_the_tab_is():
    assert VIEWS["task_instance"]["url_route"] == pages.URL_ROUTE
    assert f"/{pages.PREFIX}" == addresses.PREFIX == ImagesPlugin.fastapi_apps[0]["url_prefix"]


def test_each_view_has_a_route_of_its_own_and_airflow_knows_its_destination():
    views = ImagesPlugin.external_views

    assert len({view["url_route"] for view in views}) == len(views)
    for view in views:
        if view["destination"] != "asset":  # of which 3.3 knows nothing
            ExternalViewResponse.model_validate(view)
    assert ("asset" in VIEWS) == IS_3_4


@pytest.mark.parametrize("destination", VIEWS)
def test_each_view_leads_to_a_place_also_beneath_a_path(destination):
    href = VIEWS[destination]["href"]
    for placeholder, value in (
        ("{DAG_ID}", "shop"), ("{RUN_ID}", "manual__2026-11-26T18:12:09+00:00"),
        ("{TASK_ID}", "group.poster"), ("{ASSET_ID}", "7"),
    ):  # fmt: skip
        href = href.replace(placeholder, value)

    # Relative: Airflow's page puts its own address in front, with its path where it has one.
    prefix, _, place = href.partition("/")
    assert prefix == "gpt-image"
    assert Place.parse(place) is not None


def test_each_icon_is_a_file_of_ours():
    for view in ImagesPlugin.external_views:
        for icon in (view["icon"], view["icon_dark_mode"]):
            room, _, name = icon.rpartition("/")
            assert room == "gpt-image/static/icons"
            assert files("airflow_gpt_image.plugins.images").joinpath("static", name).is_file()


@pytest.mark.parametrize("destination", ["task", "task_instance"])
def test_the_tab_is_for_all_tasks_of_ours_and_no_others(destination):
    operators = (GptImageGenerateOperator, GptImageBatchOperator, GptImageSensor)
    decorated = (_GptImageDecoratedOperator, _GptImageBatchDecoratedOperator)

    assert set(VIEWS[destination]["applies_to"]["operator_name"]) == {
        *(operator.__name__ for operator in operators),
        *(operator.custom_operator_name for operator in decorated),
    }


def test_without_a_setting_no_folder_is_shown():
    option = get_provider_info()["config"]["gpt_image"]["options"]["gallery_roots"]

    assert (option["default"], option["type"]) == ("", "string")
