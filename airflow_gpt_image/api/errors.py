"""Every way a call can fail, as classes; a class says whether trying again can help.

::

    GptImageError
    ├── InvalidRequestError          400 invalid_request, or refused here before anything was sent
    ├── InvalidApiKeyError           401 invalid_api_key, or a key that can't be one
    ├── InsufficientCreditsError     402 insufficient_credits
    ├── IpNotAllowedError            403 ip_not_allowed
    ├── ModelNotFoundError           404 model_not_found
    ├── GenerationNotFoundError      404 task_not_found
    ├── RateLimitError           *   429 rate_limit_exceeded
    ├── SpendLimitError              429 spend_limit_exceeded
    ├── InternalServerError      *   500 internal_error
    ├── UpstreamError            *   503 upstream_error
    ├── ConnectionFailedError    *   no answer
    ├── UnreadableAnswerError    *   an answer that isn't the API's
    ├── SubmissionUnknownError       a submit without a readable answer: it may have been paid for
    ├── GenerationFailedError    (*) the generation itself failed, and was refunded; as its code says
    ├── GenerationTimeoutError   *   not finished before the deadline
    ├── DownloadError            *   an image didn't arrive whole
    │   ├── ImageExpiredError        the file host no longer has the image
    │   └── ImageRefusedError        the address or the content isn't one that is taken
    └── InvalidSettingsError         the connection's settings break a rule

``*`` is ``retryable``: the same call can succeed later without anybody changing anything. This table is the
only place that decides it. Source: "Error Codes" in the API document; what the document leaves open is said
at the class.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final, NamedTuple


class GptImageError(Exception):
    """Any failure of this package. Fields are plain values, so an error can be pickled; none holds the API
    key.

    :param message: what went wrong: the value, the rule, the remedy.
    :param status: the HTTP status, when an answer came.
    :param code: the API's error code, such as ``insufficient_credits``.
    :param type: the API's error type, such as ``billing_error``.
    :param retry_after: seconds the server asked to wait, when it did.
    :param generation_id: the generation it is about, when one is known.
    :param request_id: the server's id for the HTTP request, when it gave one.
    """

    retryable: ClassVar[bool] = False
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
    """One thing wrong with a request: where, and the value, rule and remedy in a sentence."""

    field: str
    message: str


class InvalidRequestError(GptImageError):
    """A field is missing or breaks a rule. Sending the same again can't help.

    :param problems: one per field at fault; empty when the API itself refused the request.
    """

    def __init__(self, message: str, *, problems: Sequence[Problem] = (), **fields: Any) -> None:
        super().__init__(message, **fields)
        self.problems = tuple(problems)


class InvalidApiKeyError(GptImageError):
    """The API key is invalid, disabled or deleted."""

    remedy = (
        "Possible causes: the key does not start with 'sk-'; it has been disabled or deleted; "
        "the user account has been banned. Put a working key in the connection's password."
    )


class InsufficientCreditsError(GptImageError):
    """The balance is too low. A person has to top it up."""

    remedy = "Check the balance with GET /v1/credits and top up in Dashboard > Billing."


class IpNotAllowedError(GptImageError):
    """The address the request came from isn't on the key's allowlist."""

    remedy = (
        "Add this machine's outgoing IP address to the key's allowlist, "
        "or send through a proxy that is on it."
    )


class ModelNotFoundError(GptImageError):
    """The model does not exist or is inactive."""


class GenerationNotFoundError(GptImageError):
    """The API does not know the generation id."""

    remedy = "Is the connection's account the one that submitted it?"


class RateLimitError(GptImageError):
    """Too many requests in a short time."""

    retryable = True


class SpendLimitError(GptImageError):
    """The key's hourly, daily or total spend limit is reached. Which one, the answer doesn't say."""

    remedy = "Raise the key's spend limit, or wait until the hourly or daily window is over."


class InternalServerError(GptImageError):
    """The API failed unexpectedly.

    After a submit this is read as "not accepted": the document is silent on it.
    """

    retryable = True


class UpstreamError(GptImageError):
    """The AI provider behind the API returned an error; credits are refunded."""

    retryable = True
    remedy = (
        "Possible causes: the input contains sensitive or prohibited content; the provider is temporarily "
        "unavailable; it does not support the parameters. If it keeps failing, change the prompt."
    )


class ConnectionFailedError(GptImageError):
    """No answer came: refused, not resolved, cut or timed out.

    After a submit it is raised only when the request provably never left; otherwise
    :class:`SubmissionUnknownError`.
    """

    retryable = True


class UnreadableAnswerError(GptImageError):
    """An answer came that isn't the API's: a proxy's page, broken JSON, a missing field, a redirect."""

    retryable = True


class SubmissionUnknownError(GptImageError):
    """A submit went out and no readable answer came back: it may or may not have been accepted and charged.

    Not retryable: only the author can decide to risk paying twice.
    """

    remedy = (
        "It may have been charged. Look in the account's history before submitting it again; "
        "sending it again can pay twice."
    )


class GenerationFailedError(GptImageError):
    """The generation ended as ``failed`` and was refunded.

    ``retryable`` as the table has it for its ``code``.
    """

    def __init__(self, message: str, **fields: Any) -> None:
        super().__init__(message, **fields)
        self.row = error_class(code=self.code, type=self.type)
        self.retryable = self.row.retryable  # type: ignore[misc]  # the one class whose meaning is its code's


class GenerationTimeoutError(GptImageError):
    """The generation wasn't finished by the deadline. It goes on, and trying again waits for the same one."""

    retryable = True


class DownloadError(GptImageError):
    """An image could not be fetched whole; the generation is paid for and fetching again costs nothing."""

    retryable = True


class ImageExpiredError(DownloadError):
    """The file host answered that the image isn't there (any more)."""

    retryable = False


class ImageRefusedError(DownloadError):
    """The address or the content isn't one that is taken: plain http, a local host, too large, no image."""

    retryable = False


class InvalidSettingsError(GptImageError):
    """A setting of the connection or the client breaks a rule."""


_BY_CODE: Final[dict[str, type[GptImageError]]] = {
    "invalid_request": InvalidRequestError,
    "invalid_api_key": InvalidApiKeyError,
    "insufficient_credits": InsufficientCreditsError,
    "ip_not_allowed": IpNotAllowedError,
    "model_not_found": ModelNotFoundError,
    "task_not_found": GenerationNotFoundError,
    "rate_limit_exceeded": RateLimitError,
    "spend_limit_exceeded": SpendLimitError,
    "internal_error": InternalServerError,
    "upstream_error": UpstreamError,
}
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
    """The row of the table: by code, else by type, else by HTTP status.

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
