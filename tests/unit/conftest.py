"""What the unit tests share: the emulated API and its connection, where images land, a certificate."""

from __future__ import annotations

import datetime
import ipaddress
import json
import socket
import ssl
from types import SimpleNamespace
from uuid import uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.log_lines import Lines
from tests.metric_lines import receive_metrics
from tests.object_store import CONN_ID, Bucket, Disk, object_store
from tests.task_instance import StateStore


@pytest.fixture
def connect(monkeypatch):
    """Puts the default connection into the environment, as Airflow reads it."""

    def connect(host, password="sk-emulator", **fields):
        given = {"conn_type": "gpt_image", "host": host, "password": password, **fields}
        monkeypatch.setenv("AIRFLOW_CONN_GPT_IMAGE_DEFAULT", json.dumps(given))

    return connect


@pytest.fixture
def api(gpt_image_emulator, connect):
    """The emulated API, and the default connection to it. Without certificates, clients are made at once."""
    connect(gpt_image_emulator.url, gpt_image_emulator.key, extra={"verify": False})
    return gpt_image_emulator


@pytest.fixture
def log():
    return Lines()


@pytest.fixture
def metrics():
    """What Airflow sends of our metrics."""
    with receive_metrics() as lines:
        yield lines


@pytest.fixture
def store():
    """Airflow's task state store of one task instance."""
    return StateStore()


@pytest.fixture
def closed_port():
    """A port of this machine where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1 and files.test that no system trusts.

    Comes back: its path, a server's context that shows it, and what makes a client's that trusts it.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test")])
    today = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("files.test")]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    path = str(folder / "cert.pem")
    return SimpleNamespace(path=path, server=context, client=lambda: ssl.create_default_context(cafile=path))


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
