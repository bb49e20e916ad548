"""An S3 server of the tests' own: moto's, over real HTTP, in a process of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3

CONN_ID = "image_store"

_SERVER = """
import sys, threading
from moto.server import ThreadedMotoServer
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
