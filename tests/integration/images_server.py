"""The Images tab's application in this process, behind Airflow's auth manager, as a browser meets it."""

from __future__ import annotations

import asyncio
import io
import random

import httpx
import pytest
from PIL import Image

from tests.airflow_database import AirflowDatabase


def picture(size=(640, 360), seed=1):
    file = io.BytesIO()
    small = Image.frombytes("RGB", (64, 36), random.Random(seed).randbytes(64 * 36 * 3))
    small.resize(size).save(file, "PNG")
    return file.getvalue()


class Server:
    """The application in this process, behind Airflow's auth manager."""

    def __init__(self, runner, app, folder):
        from airflow_gpt_image.plugins.images.tokens import Tokens

        self.folder, self.tokens = folder, Tokens.from_config()
        self.runner = runner
        transport = httpx.ASGITransport(app, raise_app_exceptions=True)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://airflow.test")

    def login(self, user):
        from airflow.api_fastapi.app import get_auth_manager
        from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

        return get_auth_manager().generate_jwt(SimpleAuthManagerUser(username=user, role="viewer", teams=[]))

    def get(self, path, user="shopkeeper", **headers):
        bearer = {"authorization": f"Bearer {self.login(user)}"} if user else {}
        return self.runner.run(self.client.get(f"/gpt-image/{path}", headers={**bearer, **headers}))

    def store(self, name, data):
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_bytes(data)
        return str(self.folder / name)

    def image(self, name="a.png", *, dag_id="shop", of=None, **query):
        path = name if name.startswith(("/", "s3:")) else str(self.folder / name)
        token = self.tokens.sign(of or dag_id, path)
        return f"image/{dag_id}/{token}?{httpx.QueryParams(query)}"


@pytest.fixture
def server(database, tmp_path, monkeypatch):
    from airflow.api_fastapi.app import init_auth_manager, purge_cached_app
    from fastapi import FastAPI

    from airflow_gpt_image.plugins.made_when_asked import MadeWhenAsked

    folder = tmp_path / "images"
    folder.mkdir()
    monkeypatch.setenv("AIRFLOW__CORE__AUTH_MANAGER", "tests.dag_permissions.DagPermissions")
    monkeypatch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "a secret of this test alone, " * 3)
    monkeypatch.setenv("AIRFLOW__GPT_IMAGE__GALLERY_ROOTS", str(folder))
    app = FastAPI()
    init_auth_manager(app)
    app.mount("/gpt-image", MadeWhenAsked("airflow_gpt_image.plugins.images.app"))
    with asyncio.Runner() as runner:
        made = Server(runner, app, folder)
        yield made
        runner.run(made.client.aclose())
    purge_cached_app()


class Poster:
    """A task instance of the Dag ``shop`` that has returned something."""

    def __init__(self, result, run_id="manual__2026-11-26T18:12:09+00:00"):
        self.run_id = run_id
        database = AirflowDatabase()
        database.clear()
        database.run("shop", run_id)
        database.task("shop", run_id, "poster", result=result)
