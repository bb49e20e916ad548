"""Reading data sets of one file, out of memory."""

from __future__ import annotations

import io

import pytest

from airflow_gpt_image import datasets
from airflow_gpt_image.errors import InvalidRequestError
from tests.log_lines import Lines


class Reader:
    """Reads what a test gives it, and keeps what the log says."""

    def __init__(self):
        self.log = Lines()

    def __call__(self, name, content, **given):
        content = content.encode() if isinstance(content, str) else content
        return datasets.read(f"/data/{name}", open=lambda path: io.BytesIO(content), log=self.log, **given)

    def rows(self, name, content, **given):
        rows, bad = self(name, content, **given)
        assert bad == []
        return rows

    def requests(self, requests, **given):
        return datasets.read(requests, open=open, log=self.log, **given)

    def refusal(self, name, content, **given):
        with pytest.raises(InvalidRequestError) as refused:
            self(name, content, **given)
        return str(refused.value)


@pytest.fixture
def read():
    return Reader()
