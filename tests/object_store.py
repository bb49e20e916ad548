"""Places images land in, as their owner sees them: by other means than ours.

The S3 server is moto's, over real HTTP, in a process of its own.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

CONN_ID = "image_store"

# S3 checks and carries out a conditional write in one step; moto checks, and then carries out. So it gets one
# of them at a time.
_SERVER = """
import sys, threading
from moto.moto_server import threaded_moto_server
from moto.server import ThreadedMotoServer

class OneAtATime(threaded_moto_server.DomainDispatcherApplication):
    conditional = threading.Lock()

    def __call__(self, environ, start_response):
        if "HTTP_IF_NONE_MATCH" not in environ or environ["REQUEST_METHOD"] == "GET":
            return super().__call__(environ, start_response)
        with self.conditional:
            return super().__call__(environ, start_response)

threaded_moto_server.DomainDispatcherApplication = OneAtATime
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
server.stop()
"""


@dataclass(frozen=True)
class ObjectStore:
    url: str

    def airflow_connection(self) -> str:
        """The connection, as Airflow reads it from the environment."""
        return json.dumps(
            {
                "conn_type": "aws",
                "login": "AKIDTESTS",
                "password": "a-secret-of-the-store",
                "extra": {"endpoint_url": self.url, "region_name": "us-east-1"},
            }
        )

    def client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="AKIDTESTS",
            aws_secret_access_key="a-secret-of-the-store",
        )


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        port = re.search(r"\d+", process.stdout.readline())
        assert port is not None, "the S3 server did not start"
        yield ObjectStore(f"http://127.0.0.1:{port[0]}")
    finally:
        process.stdin.close()
        process.wait(timeout=20)
        process.stdout.close()


class Disk:
    """A folder on this machine's disk, as its owner sees it."""

    def __init__(self, path: Path) -> None:
        self.destination = str(path)
        self._path = path

    def names(self) -> list[str]:
        files = (path for path in self._path.rglob("*") if path.is_file())
        return sorted(path.relative_to(self._path).as_posix() for path in files)

    def read(self, name: str) -> bytes:
        return (self._path / name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        (self._path / name).parent.mkdir(parents=True, exist_ok=True)
        (self._path / name).write_bytes(data)

    def delete(self, name: str) -> None:
        (self._path / name).unlink()

    def unfinished_uploads(self) -> list[Any]:
        return []


class Bucket:
    """A folder in a bucket, as its owner sees it: by another client than ours."""

    def __init__(self, client: Any, bucket: str) -> None:
        self.destination = f"s3://{CONN_ID}@{bucket}/some/images"
        self._client, self._bucket = client, bucket

    def names(self) -> list[str]:
        found = self._client.list_objects_v2(Bucket=self._bucket).get("Contents", [])
        return sorted(item["Key"].removeprefix("some/images/") for item in found)

    def read(self, name: str) -> bytes:
        return self._client.get_object(Bucket=self._bucket, Key=f"some/images/{name}")["Body"].read()

    def write(self, name: str, data: bytes, **headers: Any) -> None:
        self._client.put_object(Bucket=self._bucket, Key=f"some/images/{name}", Body=data, **headers)

    def delete(self, name: str) -> None:
        self._client.delete_object(Bucket=self._bucket, Key=f"some/images/{name}")

    def open_to_everybody(self) -> str:
        """Let a browser without a login read what lies there; return where it finds the folder."""
        read = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject"}
        policy = {
            "Version": "2012-10-17",
            "Statement": [{**read, "Resource": f"arn:aws:s3:::{self._bucket}/*"}],
        }
        self._client.put_bucket_policy(Bucket=self._bucket, Policy=json.dumps(policy))
        return f"{self._client.meta.endpoint_url}/{self._bucket}/some/images"

    def content_type(self, name: str) -> str:
        """What a browser is told that it gets."""
        return self._client.head_object(Bucket=self._bucket, Key=f"some/images/{name}")["ContentType"]

    def unfinished_uploads(self) -> list[Any]:
        return self._client.list_multipart_uploads(Bucket=self._bucket).get("Uploads", [])
