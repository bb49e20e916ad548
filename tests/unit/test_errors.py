from __future__ import annotations

import copy
import inspect
import pickle
import subprocess
import sys

import pytest

from airflow_gpt_image import errors
from airflow_gpt_image.errors import (
    ConnectionFailedError,
    DownloadError,
    GenerationFailedError,
    GenerationNotFoundError,
    GenerationTimeoutError,
    GptImageError,
    ImageExpiredError,
    ImageRefusedError,
    InsufficientCreditsError,
    InternalServerError,
    InvalidApiKeyError,
    InvalidRequestError,
    InvalidRowsError,
    InvalidSettingsError,
    IpNotAllowedError,
    ItemsFailedError,
    ModelNotFoundError,
    Problem,
    RateLimitError,
    SpendLimitError,
    SubmissionUnknownError,
    UnreadableResponseError,
    UpstreamError,
    error_class,
)

# "Error Reference" of the API document, and the design's answer to "again?".
TABLE = [
    (400, "invalid_request", "invalid_request_error", InvalidRequestError, False),
    (401, "invalid_api_key", "authentication_error", InvalidApiKeyError, False),
    (402, "insufficient_credits", "billing_error", InsufficientCreditsError, False),
    (403, "ip_not_allowed", "permission_error", IpNotAllowedError, False),
    (404, "model_not_found", "invalid_request_error", ModelNotFoundError, False),
    (404, "task_not_found", "invalid_request_error", GenerationNotFoundError, False),
    (429, "rate_limit_exceeded", "rate_limit_error", RateLimitError, True),
    (429, "spend_limit_exceeded", "billing_error", SpendLimitError, False),
    (500, "internal_error", "api_error", InternalServerError, True),
    (503, "upstream_error", "upstream_error", UpstreamError, True),
]
CLASSES = [
    found for _, found in inspect.getmembers(errors, inspect.isclass) if issubclass(found, GptImageError)
]


@pytest.mark.parametrize(("status", "code", "type", "expected", "again"), TABLE)
def test_a_row_of_the_table_is_a_class_that_says_whether_to_try_again(status, code, type, expected, again):
    assert error_class(code=code, type=type, status=status) is expected
    assert expected.retryable is again


@pytest.mark.parametrize(("status", "code", "type", "expected", "again"), TABLE)
def test_the_code_decides_whatever_type_and_status_say(status, code, type, expected, again):
    assert error_class(code=code) is expected
    assert error_class(code=code, type="api_error", status=418) is expected


@pytest.mark.parametrize("code", [None, "something_new"])
@pytest.mark.parametrize(
    ("type", "status", "expected"),
    [
        ("invalid_request_error", 400, InvalidRequestError),
        ("invalid_request_error", 404, InvalidRequestError),
        ("authentication_error", 418, InvalidApiKeyError),
        ("billing_error", 402, InsufficientCreditsError),
        ("billing_error", 429, SpendLimitError),
        ("billing_error", None, InsufficientCreditsError),
        ("permission_error", 401, IpNotAllowedError),
        ("rate_limit_error", 503, RateLimitError),
        ("api_error", 503, InternalServerError),
        ("upstream_error", 500, UpstreamError),
    ],
)
def test_without_a_known_code_the_type_decides(code, type, status, expected):
    assert error_class(code=code, type=type, status=status) is expected


@pytest.mark.parametrize("type", [None, "something_new"])
@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, InvalidRequestError),
        (401, InvalidApiKeyError),
        (402, InsufficientCreditsError),
        (403, IpNotAllowedError),
        (429, RateLimitError),
        (500, InternalServerError),
        (502, InternalServerError),
        (503, UpstreamError),
        (599, InternalServerError),
    ],
)
def test_without_a_known_code_and_type_the_status_decides(type, status, expected):
    assert error_class(code="something_new", type=type, status=status) is expected


@pytest.mark.parametrize("status", [404, 405, 413, 422, 451, 499])
def test_an_unknown_error_below_500_is_not_worth_repeating_and_never_means_does_not_exist(status):
    found = error_class(status=status)

    assert found.retryable is False
    assert found is not GenerationNotFoundError
    assert found is not ModelNotFoundError


def test_nothing_known_at_all_is_the_servers_trouble():
    assert error_class() is InternalServerError


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (ConnectionFailedError, True),
        (UnreadableResponseError, True),
        (SubmissionUnknownError, False),
        (GenerationTimeoutError, True),
        (DownloadError, True),
        (ImageExpiredError, False),
        (ImageRefusedError, False),
        (InvalidSettingsError, False),
        (GptImageError, False),
    ],
)
def test_what_stands_in_no_row_says_too_whether_to_try_again(error, again):
    assert error.retryable is again
    assert error("x").retryable is again


@pytest.mark.parametrize("row", TABLE)
def test_a_failed_generation_is_worth_another_try_as_its_code_is(row):
    _, code, _, expected, again = row

    error = GenerationFailedError("x", code=code)

    assert error.retryable is again
    assert error.row is expected


def test_a_failed_generation_without_a_known_code_goes_by_its_type():
    error = GenerationFailedError("x", code="content_rejected", type="invalid_request_error")

    assert error.retryable is False


def test_one_failed_generation_does_not_change_the_next():
    GenerationFailedError("x", code="invalid_request")

    assert GenerationFailedError("x", code="internal_error").retryable is True


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (InvalidApiKeyError, ["sk-", "disabled or deleted", "banned"]),
        (InsufficientCreditsError, ["GET /v1/credits", "Dashboard > Billing"]),
        (IpNotAllowedError, ["allowlist"]),
        (UpstreamError, ["sensitive or prohibited content", "temporarily unavailable", "parameters"]),
    ],
)
def test_the_documents_causes_and_remedies_are_the_remedy(error, words):
    assert [word for word in words if word not in error.remedy] == []


@pytest.mark.parametrize("error", CLASSES)
def test_every_error_is_of_our_own_tree_and_survives_pickling_and_copying(error):
    raised = error(
        "what, rule, remedy",
        status=429,
        code="spend_limit_exceeded",
        type="billing_error",
        retry_after=2.5,
        generation_id="abc",
        request_id="req",
    )

    for again in (pickle.loads(pickle.dumps(raised)), copy.copy(raised)):
        assert type(again) is error
        assert str(again) == "what, rule, remedy"
        assert vars(again) == vars(raised)
        assert again.retryable is raised.retryable


def test_the_problems_of_a_request_survive_pickling():
    error = InvalidRequestError("x", problems=[Problem("prompt", "is blank")])

    again = pickle.loads(pickle.dumps(error))

    assert again.problems == (Problem("prompt", "is blank"),)


@pytest.mark.parametrize("error", CLASSES)
def test_fields_that_are_not_known_are_none(error):
    raised = error("x")

    assert raised.message == str(raised) == "x"
    assert [raised.status, raised.code, raised.type, raised.retry_after] == [None] * 4
    assert [raised.generation_id, raised.request_id] == [None] * 2


def test_the_tree_at_the_top_of_the_file_names_every_class():
    missing = [found.__name__ for found in CLASSES if found.__name__ not in errors.__doc__]

    assert missing == []


@pytest.mark.parametrize("error", CLASSES)
def test_the_tree_at_the_top_of_the_file_marks_what_is_retryable(error):
    (line,) = (line for line in errors.__doc__.splitlines() if error.__name__ in line.split())
    (mark,) = {"*", "(*)"} & set(line.split()) or {""}

    by_instance = error in (GenerationFailedError, ItemsFailedError)
    assert mark == ("(*)" if by_instance else "*" if error.retryable else "")


SCOPES = {
    "account": {
        "InvalidApiKeyError",
        "InsufficientCreditsError",
        "IpNotAllowedError",
        "ModelNotFoundError",
        "SpendLimitError",
        "InvalidSettingsError",
        "CreditLimitError",
    },
    "service": {
        "RateLimitError",
        "InternalServerError",
        "UpstreamError",
        "ConnectionFailedError",
        "UnreadableResponseError",
        "TaskInterruptedError",
        "StoppedError",
    },
    "storage": {
        "LedgerError",
        "RecordMoveError",
        "ReplacedError",
        "RecordMissingError",
        "DestinationError",
        "DestinationTakenError",
        "PlanError",
    },
}


@pytest.mark.parametrize("error", CLASSES)
def test_an_error_says_whether_every_other_image_would_meet_the_same(error):
    expected = [scope for scope, names in SCOPES.items() if error.__name__ in names] or ["request"]

    assert [error.scope] == expected


@pytest.mark.parametrize("error", [found for found in CLASSES if found is not GptImageError])
def test_the_tree_at_the_top_of_the_file_says_whom_each_error_concerns(error):
    (line,) = (line for line in errors.__doc__.splitlines() if error.__name__ in line.split())
    words = line.split()

    assert error.scope in words[words.index(error.__name__) + 1 :][:2]


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (errors.LedgerError, True),
        (errors.RecordMoveError, True),
        (errors.ReplacedError, True),
        (errors.RecordMissingError, False),
        (errors.DestinationError, True),
        (errors.DestinationTakenError, True),
        (errors.PlanError, True),
        (errors.CreditLimitError, False),
        (errors.ItemsFailedError, False),
        (errors.UnsettledImagesError, True),
        (errors.TaskInterruptedError, True),
        (errors.StoppedError, True),
        (errors.InvalidRowsError, False),
    ],
)
def test_an_error_of_a_task_says_whether_another_try_can_help(error, again):
    assert error.retryable is again


def test_the_cells_at_fault_survive_pickling():
    error = InvalidRowsError("x", bad=["cell"], problems=[Problem("prompt", "is blank")])

    again = pickle.loads(pickle.dumps(error))

    assert (again.bad, again.problems) == (("cell",), (Problem("prompt", "is blank"),))


def test_every_error_of_the_package_that_a_user_can_catch_is_defined_here():
    done = subprocess.run(
        [sys.executable, "-c", _EVERY_ERROR], capture_output=True, text=True, timeout=120, check=True
    )

    assert done.stdout.split() == ["airflow_gpt_image.errors"]


_EVERY_ERROR = """
import importlib, pkgutil, airflow_gpt_image
from airflow_gpt_image.errors import GptImageError

for module in pkgutil.walk_packages(airflow_gpt_image.__path__, "airflow_gpt_image."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)

def below(kind):
    return {kind}.union(*(below(each) for each in kind.__subclasses__()))

print(*sorted({kind.__module__ for kind in below(GptImageError)}))
"""
