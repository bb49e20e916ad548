"""What the client of Airflow's REST API sends to one version and to another."""

from __future__ import annotations

import json

import httpx
import pytest

from stack.rest import AirflowRestApi, ApiError, region_of


class Server:
    """Answers as an Airflow of one version does, and remembers what it was asked."""

    def __init__(self, version):
        self.version = version
        self.asked = []

    def __call__(self, request):
        self.asked.append(request)
        answers = {
            "/auth/token": {"access_token": "t"},
            "/api/v2/version": {"version": self.version},
            "/api/v2/dags/d/clearTaskInstances": {"task_instances": []},
            "/api/v2/dags/d/dagRuns/r/taskInstances/t/state-store": {"task_state_store": []},
        }
        return httpx.Response(200, json=answers[request.url.path])


def asked_of(version):
    server = Server(version)
    api = AirflowRestApi("http://airflow.test")
    api.client = httpx.Client(base_url=api.url, transport=httpx.MockTransport(server))
    return api, server


@pytest.mark.parametrize(
    ("version", "sent"),
    [("3.3.2", {}), ("3.4.0b2", {"keep_task_state": True}), ("3.10.0", {"keep_task_state": True})],
)
def test_a_clear_asks_to_keep_the_task_state_where_that_is_a_question(version, sent):
    api, server = asked_of(version)

    api.clear("d", "r", ["t"], keep_task_state=True)

    body = json.loads(server.asked[-1].content)
    assert {name: value for name, value in body.items() if name == "keep_task_state"} == sent


def test_a_plain_clear_leaves_the_task_state_to_airflow():
    api, server = asked_of("3.4.0")

    api.clear("d", "r", ["t"])

    assert "keep_task_state" not in json.loads(server.asked[-1].content)


def test_an_iteration_of_a_loop_is_addressed_by_its_region():
    api, server = asked_of("3.4.0")
    instance = {"map_index": -1, "in_loop": True, "region_id": "0-1", "region_index": 2}

    api.task_state_store("d", "r", "t", region=region_of(instance))

    assert server.asked[-1].url.params["region_id"] == "0-1"
    assert server.asked[-1].url.params["region_index"] == "2"


@pytest.mark.parametrize(
    "instance", [{"map_index": 1}, {"map_index": 1, "in_loop": False, "region_id": None}]
)
def test_outside_of_a_loop_there_is_no_region(instance):
    assert region_of(instance) is None


def test_a_refusal_says_what_was_asked_and_what_airflow_said():
    api = AirflowRestApi("http://airflow.test")
    refuse = httpx.MockTransport(lambda request: httpx.Response(403, text="not you"))
    api.client = httpx.Client(base_url=api.url, transport=refuse)

    with pytest.raises(ApiError, match=r"^GET /auth/token answered 403: not you$") as caught:
        api.request("GET", "/api/v2/dags")

    assert caught.value.status_code == 403
