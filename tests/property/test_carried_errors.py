"""Every error survives the way from one process to another, whatever it holds."""

from __future__ import annotations

import inspect
import pickle

from hypothesis import given
from hypothesis import strategies as st

from airflow_gpt_image import errors
from airflow_gpt_image.errors import GptImageError, error_class

CLASSES = [
    found for found in vars(errors).values() if inspect.isclass(found) and issubclass(found, GptImageError)
]

texts = st.none() | st.text(max_size=50)
codes = texts | st.sampled_from(["invalid_request", "upstream_error", "spend_limit_exceeded"])
fields = st.fixed_dictionaries(
    {},
    optional={
        "status": st.none() | st.integers(),
        "code": codes,
        "type": texts,
        "retry_after": st.none() | st.floats(allow_nan=False),
        "generation_id": texts,
        "request_id": texts,
    },
)


@given(st.sampled_from(CLASSES), st.text(max_size=50), fields, st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_an_error_is_the_same_after_pickling(kind, message, given_fields, version):
    error = kind(message, **given_fields)

    again = pickle.loads(pickle.dumps(error, version))

    assert type(again) is kind
    assert str(again) == message
    assert vars(again) == vars(error)
    assert again.retryable is error.retryable


@given(codes, texts, st.none() | st.integers())
def test_any_code_type_and_status_are_some_row_of_the_table(code, type, status):
    row = error_class(code=code, type=type, status=status)

    assert issubclass(row, GptImageError)
    assert row.retryable in (True, False)
