"""Define every error a user can catch; the class says whether trying again can help, and whom it concerns.

::

    GptImageError
    ├── InvalidRequestError            request  400 invalid_request, or refused here before anything was sent
    │   ├── InvalidRowsError           request  rows of a data set can't be requests
    │   └── EmptyDataSetError          request  a data set without a row
    ├── InvalidApiKeyError             account  401 invalid_api_key, or a key that can't be one
    ├── InsufficientCreditsError       account  402 insufficient_credits
    ├── IpNotAllowedError              account  403 ip_not_allowed
    ├── ModelNotFoundError             account  404 model_not_found
    ├── GenerationNotFoundError        request  404 task_not_found
    ├── RateLimitError             *   service  429 rate_limit_exceeded
    ├── SpendLimitError                account  429 spend_limit_exceeded
    ├── InternalServerError        *   service  500 internal_error
    ├── UpstreamError              *   service  503 upstream_error
    ├── ConnectionFailedError      *   service  no response
    ├── UnreadableResponseError      *   service  a response that isn't the API's
    ├── SubmissionUnknownError         request  a submit without a readable response; it may be paid for
    ├── GenerationFailedError     (*)  request  the generation failed, and was refunded; as its code says
    ├── GenerationTimeoutError     *   request  not finished before the deadline
    ├── DownloadError              *   request  an image didn't arrive whole
    │   ├── ImageExpiredError          request  the image isn't there, and is older than a day
    │   └── ImageRefusedError          request  the address or the content isn't one that is taken
    ├── InvalidSettingsError           account  the connection's settings break a rule
    ├── CreditLimitError               account  submitting would spend more than max_credits
    ├── LedgerError                *   storage  the records couldn't be read or written
    │   ├── RecordMoveError        *   storage  a record was asked for a move that its table doesn't have
    │   └── ReplacedError          *   storage  the task instance was retried or cleared meanwhile
    ├── RecordMissingError             storage  a cleared task's record of what it paid for is gone
    ├── DestinationError           *   storage  the destination couldn't be read or written
    │   ├── DestinationTakenError  *   storage  another task is at work there
    │   └── PlanError              *   storage  a batch's plan isn't the one that was written
    ├── ItemsFailedError          (*)  request  more images of a batch failed than the author allows
    ├── UnsettledImagesError       *   request  images are paid for and not stored; trying again can get them
    └── TaskInterruptedError       *   service  the task was ended from outside
        └── StoppedError           *   service  not submitted, because the batch submits nothing more

``*`` is ``retryable``: the same call can succeed later without anybody changing anything. The word beside it
is ``scope``. These classes are the only place that decides both. Source: "Error Codes" in the API document;
what the document leaves open is said at the class.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final, Literal, NamedTuple

Scope = Literal["request", "account", "service", "storage"]


class GptImageError(Exception):
    """Report any failure of this package.

    Fields are plain values, so an error can be pickled; none holds the API key.

    :cvar retryable: whether the same call can succeed later without anybody changing anything.
    :cvar scope: whom it concerns. ``request``: this one image. ``account``: the account, the key, the model
        or a limit, so every other image of a batch would meet the same. ``service``: the API or the way to
        it. ``storage``: the records or the destination.
    :cvar remedy: what to do, for messages.
    :param message: what went wrong: the value, the rule, the remedy.
    :param status: the HTTP status, when a response came.
    :param code: the API's error code, such as ``insufficient_credits``.
    :param type: the API's error type, such as ``billing_error``.
    :param retry_after: seconds the server asked to wait, when it did.
    :param generation_id: the generation it is about, when one is known.
    :param request_id: the server's id for the HTTP request, when it gave one.
    """

    retryable: ClassVar[bool] = False
    scope: ClassVar[Scope] = "request"
    remedy: ClassVar[str] = ""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        type: str | None = None,
        retry_after: float | None = None,
        generation_id: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        self.type = type
        self.retry_after = retry_after
        self.generation_id = generation_id
        self.request_id = request_id


class Problem(NamedTuple):
    """Hold one thing wrong with a request: where, and the value, rule and remedy in a sentence."""

    field: str
    message: str


class InvalidRequestError(GptImageError):
    """Report a field that is missing or breaks a rule. Sending the same again can't help.

    :param problems: one per field at fault; empty when the API itself refused the request.
    """

    def __init__(self, message: str, *, problems: Sequence[Problem] = (), **fields: Any) -> None:
        super().__init__(message, **fields)
        self.problems = tuple(problems)


class InvalidRowsError(InvalidRequestError):
    """Report rows of a data set that can't be requests. Nothing was submitted.

    :param bad: every :class:`~airflow_gpt_image.datasets.BadCell`; the message names the first 20.
    """

    def __init__(self, message: str, *, bad: Sequence[Any] = (), **fields: Any) -> None:
        super().__init__(message, **fields)
        self.bad = tuple(bad)


class EmptyDataSetError(InvalidRequestError):
    """Report a data set without a row. ``on_empty="skip"`` of a batch skips the task instead."""


class InvalidApiKeyError(GptImageError):
    """Report an API key that is invalid, disabled or deleted."""

    scope = "account"
    remedy = (
        "Possible causes: the key does not start with 'sk-'; it has been disabled or deleted;\n"
        "the user account has been banned.\n"
        "Put a working key in the connection's password."
    )


class InsufficientCreditsError(GptImageError):
    """Report a balance that is too low. A person has to top it up."""

    scope = "account"
    remedy = "Check the balance with GET /v1/credits and top up in Dashboard > Billing."


class IpNotAllowedError(GptImageError):
    """Report that the address the request came from isn't on the key's allowlist."""

    scope = "account"
    remedy = "Add this machine's outgoing IP address to the key's allowlist, or use a proxy that is on it."


class ModelNotFoundError(GptImageError):
    """Report that the model does not exist or is inactive."""

    scope = "account"


class GenerationNotFoundError(GptImageError):
    """Report a generation id that the API does not know."""

    remedy = "Is the connection's account the one that submitted it?"


class RateLimitError(GptImageError):
    """Report too many requests in a short time."""

    retryable = True
    scope = "service"


class SpendLimitError(GptImageError):
    """Report that the key's hourly, daily or total spend limit is reached. The response doesn't say which."""

    scope = "account"
    remedy = "Raise the key's spend limit, or wait until the hourly or daily window is over."


class InternalServerError(GptImageError):
    """Report that the API failed unexpectedly.

    A submit that met ``500 internal_error`` counts as not accepted. That is our reading, for the document is
    silent on it; so the same submit is not sent again within the attempt.
    """

    retryable = True
    scope = "service"


class UpstreamError(GptImageError):
    """Report an error of the AI provider behind the API; credits are refunded.

    A submit that met ``503 upstream_error`` counts as not accepted, and is not sent again within the attempt.
    """

    retryable = True
    scope = "service"
    remedy = (
        "Possible causes: the input contains sensitive or prohibited content;\n"
        "the provider is temporarily unavailable; it does not support the parameters.\n"
        "If it keeps failing, change the prompt."
    )


class ConnectionFailedError(GptImageError):
    """Report that no response came: refused, not resolved, cut or timed out.

    After a submit it is raised only when the request provably never left; otherwise
    :class:`SubmissionUnknownError`.
    """

    retryable = True
    scope = "service"


class UnreadableResponseError(GptImageError):
    """Report a response that isn't the API's: a proxy's page, broken JSON, a missing field, a redirect."""

    retryable = True
    scope = "service"


class SubmissionUnknownError(GptImageError):
    """Report a submit without a readable response: it may or may not have been accepted and charged.

    Not retryable: only the author can decide to risk paying twice.
    """

    remedy = (
        "It may have been charged. Look in the account's history before submitting it again;\n"
        "sending it again can pay twice."
    )


class GenerationFailedError(GptImageError):
    """Report a generation that ended as ``failed`` and was refunded.

    ``retryable`` as the table has it for its ``code``; ``row`` is the table's class.
    """

    def __init__(self, message: str, **fields: Any) -> None:
        super().__init__(message, **fields)
        self.row = error_class(code=self.code, type=self.type)
        self.retryable = self.row.retryable  # type: ignore[misc]  # the one class whose meaning is its code's


class GenerationTimeoutError(GptImageError):
    """Report a generation that wasn't finished by the deadline. Trying again waits for the same one."""

    retryable = True


class DownloadError(GptImageError):
    """Report an image that could not be fetched whole, or isn't there (yet). Fetching again costs nothing."""

    retryable = True


class ImageExpiredError(DownloadError):
    """Report the file host's response that an image isn't there, so long after it was made that it is gone.

    Before that it may be late, which is a :class:`DownloadError`. Asking once more costs nothing.
    """

    retryable = False


class ImageRefusedError(DownloadError):
    """Report an address or a content that isn't taken: plain http, a local host, too large, no image."""

    retryable = False


class InvalidSettingsError(GptImageError):
    """Report a setting of the connection or the client that breaks a rule."""

    scope = "account"


class CreditLimitError(GptImageError):
    """Report that submitting would spend more than ``max_credits``. Nothing was submitted."""

    scope = "account"


class LedgerError(GptImageError):
    """Report that the records couldn't be read or written, or make no sense. Paying would not be safe."""

    retryable = True
    scope = "storage"


class RecordMoveError(LedgerError):
    """Report that a record was asked for a move that its table doesn't have, such as back."""


class ReplacedError(LedgerError):
    """Report that this worker's task instance was retried or cleared meanwhile: another worker goes on."""


class RecordMissingError(GptImageError):
    """Report that the task was cleared and the record of what it paid for is gone.

    Not retryable: only the author can decide to pay again.
    """

    scope = "storage"


class DestinationError(GptImageError):
    """Report a destination that could not be read or written. What was paid for is on record."""

    retryable = True
    scope = "storage"


class DestinationTakenError(DestinationError):
    """Report that another task is at work at this destination. Nothing was submitted."""


class PlanError(DestinationError):
    """Report that a batch's plan isn't the one that was written. The next try finds what is paid for."""


class ItemsFailedError(GptImageError):
    """Report that more images failed than the author allows; ``retryable`` if one of the failures is."""


class UnsettledImagesError(GptImageError):
    """Report images that are paid for and not stored. Trying again can still get them, and costs nothing."""

    retryable = True


class TaskInterruptedError(GptImageError):
    """Report that the task was ended from outside. What is paid for stays on record; the next try goes on."""

    retryable = True
    scope = "service"


class StoppedError(TaskInterruptedError):
    """Report that an image of a batch was not submitted, because the batch submits nothing more."""


ERROR_REFERENCE: Final[dict[tuple[int, str], type[GptImageError]]] = {
    (400, "invalid_request"): InvalidRequestError,
    (401, "invalid_api_key"): InvalidApiKeyError,
    (402, "insufficient_credits"): InsufficientCreditsError,
    (403, "ip_not_allowed"): IpNotAllowedError,
    (404, "model_not_found"): ModelNotFoundError,
    (404, "task_not_found"): GenerationNotFoundError,
    (429, "rate_limit_exceeded"): RateLimitError,
    (429, "spend_limit_exceeded"): SpendLimitError,
    (500, "internal_error"): InternalServerError,
    (503, "upstream_error"): UpstreamError,
}
"""The statuses and codes that stand together under "Error Reference" in the API document."""

_BY_CODE: Final[dict[str, type[GptImageError]]] = {code: kind for (_, code), kind in ERROR_REFERENCE.items()}
_BY_TYPE: Final[dict[str, type[GptImageError]]] = {
    "invalid_request_error": InvalidRequestError,
    "authentication_error": InvalidApiKeyError,
    "billing_error": InsufficientCreditsError,
    "permission_error": IpNotAllowedError,
    "rate_limit_error": RateLimitError,
    "api_error": InternalServerError,
    "upstream_error": UpstreamError,
}
_BY_STATUS: Final[dict[int, type[GptImageError]]] = {
    400: InvalidRequestError,
    401: InvalidApiKeyError,
    402: InsufficientCreditsError,
    403: IpNotAllowedError,
    429: RateLimitError,
    503: UpstreamError,
}


def error_class(
    *, code: str | None = None, type: str | None = None, status: int | None = None
) -> type[GptImageError]:
    """Return the row of the table: by code, else by type, else by HTTP status.

    A status without a row of its own is the server's trouble from 500 on, and ours below.
    """
    if code in _BY_CODE:
        return _BY_CODE[code]
    if type == "billing_error" and status == 429:
        return SpendLimitError
    if type in _BY_TYPE:
        return _BY_TYPE[type]
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return InvalidRequestError if status is not None and 400 <= status < 500 else InternalServerError
