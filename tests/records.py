"""What records are about in tests: one request, one moment, one account."""

from __future__ import annotations

from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.ledger.decisions import Policy, decide
from airflow_gpt_image.ledger.ledger import Ledger
from airflow_gpt_image.ledger.record import fingerprint, furthest
from tests.fake_clock import FakeClock

REQUEST = ImageRequest(prompt="a red teapot")
OTHER = ImageRequest(prompt="a blue teapot")
NOW = FakeClock().now()
DEADLINE = NOW.timestamp() + 3_600


def identity(request: ImageRequest = REQUEST) -> str:
    return fingerprint(request, conn_id="c", host="h")


def verdict(ledger: Ledger, request: ImageRequest = REQUEST) -> str:
    """What follows for an attempt from what is on record."""
    return decide(ledger.find(identity(request)), ledger.payer, Policy()).decision


def check_complete(ledger: Ledger, request: ImageRequest = OTHER, *, regenerate: bool = False) -> None:
    earlier = furthest(ledger.find(identity(request)))
    ledger.check_nothing_is_missing(identity(request), earlier, regenerate=regenerate)
