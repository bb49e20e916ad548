"""The places images land in: this machine's disk and an S3 server. What holds on one holds on the other."""

from __future__ import annotations

import contextlib
from pathlib import Path
from uuid import uuid4

import pytest

from airflow_gpt_image.api.client import GptImageClient
from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.api.retrying import Retrying
from airflow_gpt_image.api.settings import ClientSettings
from tests.object_store import CONN_ID, object_store


class Disk:
    """A folder on this machine's disk, as its owner sees it."""

    def __init__(self, path):
        self.destination = str(path)
        self._path = path

    def names(self):
        files = (path for path in self._path.rglob("*") if path.is_file())
        return sorted(path.relative_to(self._path).as_posix() for path in files)

    def read(self, name):
        return (self._path / name).read_bytes()

    def write(self, name, data):
        (self._path / name).parent.mkdir(parents=True, exist_ok=True)
        (self._path / name).write_bytes(data)

    def delete(self, name):
        (self._path / name).unlink()


class Bucket:
    """A folder in a bucket, as its owner sees it: by another client than ours."""

    def __init__(self, client, bucket):
        self.destination = f"s3://{CONN_ID}@{bucket}/some/images"
        self._client, self._bucket = client, bucket

    def names(self):
        found = self._client.list_objects_v2(Bucket=self._bucket).get("Contents", [])
        return sorted(item["Key"].removeprefix("some/images/") for item in found)

    def read(self, name):
        return self._client.get_object(Bucket=self._bucket, Key=f"some/images/{name}")["Body"].read()

    def write(self, name, data):
        self._client.put_object(Bucket=self._bucket, Key=f"some/images/{name}", Body=data)

    def delete(self, name):
        self._client.delete_object(Bucket=self._bucket, Key=f"some/images/{name}")

    def unfinished_uploads(self):
        return self._client.list_multipart_uploads(Bucket=self._bucket).get("Uploads", [])


@pytest.fixture(scope="session")
def s3():
    with object_store() as store:
        yield store


@pytest.fixture
def bucket(s3, monkeypatch):
    """An S3 bucket of its own, and Airflow's connection to it."""
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", s3.airflow_connection())
    client = s3.client()
    name = f"images-{uuid4().hex}"
    client.create_bucket(Bucket=name)
    return Bucket(client, name)


@pytest.fixture
def disk(tmp_path):
    return Disk(tmp_path / "images")


@pytest.fixture(params=["disk", "bucket"])
def place(request):
    """Where images land."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def emulator(gpt_image_emulator):
    return gpt_image_emulator


@pytest.fixture
def connect(emulator):
    """Opens a client of the emulator that doesn't pause for long between its tries."""
    with contextlib.ExitStack() as stack:

        def opened(**settings):
            given = ClientSettings(api_key=emulator.key, base_url=emulator.url, **settings)
            return stack.enter_context(GptImageClient(given, retrying=Retrying(first_pause=0.001)))

        yield opened


@pytest.fixture
def client(connect):
    return connect()


@pytest.fixture
def made(client):
    """Has an image made; the completed generation."""

    def made(request=ImageRequest(prompt="a red bicycle")):
        return client.generate(request, poll_interval=0.03)

    return made


@pytest.fixture
def folder(tmp_path):
    return Path(tmp_path) / "images"
