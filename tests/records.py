"""What records are about in tests: one request, one moment, one account."""

from __future__ import annotations

from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.ledger.record import fingerprint
from tests.fake_clock import FakeClock

REQUEST = ImageRequest(prompt="a red teapot")
OTHER = ImageRequest(prompt="a blue teapot")
NOW = FakeClock().now()
DEADLINE = NOW.timestamp() + 3_600


def identity(request: ImageRequest = REQUEST) -> str:
    return fingerprint(request, conn_id="c", host="h")
