"""Turn a value into a call, and a response into a value or a typed error. No network, no clock.

Rules:

1. An error body of the API itself becomes the class of the table. Everything else that can't be read becomes
   UnreadableResponseError; "could not be read" is never "does not exist".
2. After a submit the same doubt has another name, SubmissionUnknownError, for there it is about money. Only
   these mean "not accepted": a request that provably never left; a status and an ``error.code`` that stand
   together in the document's table; an envelope without an id whose code refuses, under a status that is a
   success or the same code. A type, a status or a gateway's JSON alone proves nothing.
3. An id in the response to a submit is taken whatever else is missing: it is what was paid for. A document
   that is whole counts, also when something follows it or the response breaks off; but as a refusal it proves
   nothing then.
4. Odd JSON is no reason to lose what is paid for. What no database takes (half a surrogate pair, NUL, numbers
   without end, nesting without end) is left out or replaced before anybody else sees it.
5. The API key is concealed in everything that came over the wire before anybody else sees it, and so are the
   queries of addresses in every text that is quoted: the API may quote a reference image's signature.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final, NoReturn

from pydantic import ValidationError

from airflow_gpt_image.api.addresses import is_object
from airflow_gpt_image.api.foreign_json import parse_json
from airflow_gpt_image.api.models import (
    MODEL,
    Generation,
    ImageRequest,
    parse_generation_id,
)
from airflow_gpt_image.api.replies import Call, NoResponse, Reply, Response
from airflow_gpt_image.api.retrying import parse_http_date, parse_retry_after
from airflow_gpt_image.api.rules import check_generation_id
from airflow_gpt_image.api.text import quote, redact_beginning, single_line, storable
from airflow_gpt_image.errors import (
    ERROR_REFERENCE,
    ConnectionFailedError,
    GptImageError,
    InvalidRequestError,
    SubmissionUnknownError,
    UnreadableResponseError,
    error_class,
)

# A response of the API is a few hundred bytes. A larger one isn't the API's, and mustn't fill a triggerer's
# memory.
MAX_RESPONSE_BYTES: Final = 1024 * 1024

# A larger one is read in a thread where an event loop would be held up.
LARGE_RESPONSE_BYTES: Final = 32 * 1024


def parse_response(
    *,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    at: float,
    api_key: str,
    complete: bool = True,
) -> Response:
    """Read what came over the wire; ``headers`` in lower case.

    :param complete: whether the response came to its end.
    """
    text = body.decode(json.detect_encoding(body), errors="replace").strip()
    followed, page = False, ""
    try:
        found, followed = parse_json(text)
        if followed and not isinstance(found, dict):
            raise ValueError("a page that begins with a number or a word of JSON")
        # Only an escape can hide the key, NUL or half a surrogate pair in JSON. Most responses have none, and
        # looking through all their texts one by one takes longer than everything else that is done here.
        escaped = "\\" in text
        if escaped or api_key in text:
            found = _conceal(found, api_key)
        if not isinstance(found, dict) or len(body) > LARGE_RESPONSE_BYTES:
            page = json.dumps(found) if escaped else _conceal(text, api_key)
    except (ValueError, RecursionError):
        found, page = None, _conceal(body.decode("utf-8-sig", errors="replace"), api_key)
    return Response(
        status=status,
        headers=_conceal_headers(headers, api_key),
        document=found if isinstance(found, dict) else None,
        page=redact_beginning(page)[:200] if page else "",
        at=at,
        whole=complete and not followed,
    )


def _conceal_headers(headers: Mapping[str, str], api_key: str) -> Mapping[str, str]:
    together = "".join((*headers, *headers.values()))
    if together.isascii() and "\0" not in together and api_key not in together:
        return headers
    concealed: Mapping[str, str] = _conceal(dict(headers), api_key)
    return concealed


def without_address(reply: Reply, url: str | None) -> Reply:
    """Return a reply that doesn't repeat an address whose path is as good as a key: a callback's."""
    if url is None or isinstance(reply, NoResponse):
        return reply
    path = url.partition("://")[2].partition("/")[2].partition("?")[0]
    for secret in (url, path):
        if len(secret) > 1:
            document, page = _conceal(reply.document, secret), reply.page.replace(secret, "***")
            reply = replace(reply, document=document, page=page)
    return reply


def _conceal(value: Any, secret: str) -> Any:
    """Return the same JSON value, storable, with the secret replaced in every string, keys included."""
    if isinstance(value, str):
        return storable(value).replace(secret, "***")
    if isinstance(value, list):
        return [_conceal(item, secret) for item in value]
    if isinstance(value, dict):
        return {_conceal(key, secret): _conceal(item, secret) for key, item in value.items()}
    return value


def submit_call(request: ImageRequest) -> Call:
    """Build the call that submits a request, and costs money. The resolved tier is always sent.

    :raises InvalidRequestError: when a reference image is an object that nobody has signed.
    """
    unsigned = [url for url in request.image_urls if is_object(url)]
    if unsigned:
        raise InvalidRequestError(
            f"image_urls: {quote(unsigned[0])} is an object on a store.\n"
            "The API can't read it there.\nGive a signed https address of it.",
            code="invalid_request",
        )
    fields = request.model_dump(exclude={"callback_url"}, exclude_none=True)
    if not request.image_urls:
        del fields["image_urls"]
    body: dict[str, Any] = {"model": MODEL, "input": fields}
    if request.callback_url is not None:
        body["callback_url"] = request.callback_url
    return Call("POST", "/v1/images/generations", body)


def get_call(generation_id: str) -> Call:
    """Build the call that reads a generation.

    :raises InvalidRequestError: when the id can't be one; it becomes a part of the path.
    """
    try:
        return Call("GET", f"/v1/tasks/{check_generation_id(generation_id)}")
    except ValueError as error:
        raise InvalidRequestError(f"generation_id: {error}", code="invalid_request") from None


BALANCE_CALL: Final = Call("GET", "/v1/credits")


# What the API's envelope says of a request that it has not taken on. Other codes are a server's trouble or a
# timeout's, behind which the request may have been accepted.
_REFUSING_ENVELOPES: Final = frozenset({400, 401, 402, 403, 404, 422, 429})

_ID_NAMES: Final = ("taskId", "task_id", "id")


def parse_submit(reply: Reply) -> str:
    """Return the generation id.

    :raises SubmissionUnknownError: when it may have been accepted; it carries the id if there is one.
    :raises GptImageError: as the table has it, when it was not accepted.
    """
    if isinstance(reply, NoResponse):
        if not reply.sent:
            raise ConnectionFailedError(
                f"The request never reached {reply.api}.\n"
                f"{reply.reason}. Nothing was submitted.\n{reply.remedy}"
            )
        raise SubmissionUnknownError(
            f"The request was sent to {reply.api}, but no response came.\n"
            f"{reply.reason}.\n{SubmissionUnknownError.remedy}"
        )
    document = reply.document or {}
    if reply.whole:
        _raise_for_refusal(reply, document)
    generation_id = _generation_id_in(document)
    try:
        _raise_for_error(reply)
        if generation_id is None:
            _raise_unreadable(reply, "it holds no generation id")
    except GptImageError as error:
        if generation_id is not None:
            what = f"The response names a generation ({generation_id}) and an error at once"
        elif isinstance(error, UnreadableResponseError):
            what = "The request was sent but its response can't be read"
        else:
            what = "The request was sent but its response doesn't prove that it was refused"
        raise SubmissionUnknownError(
            f"{what}: {error.message}\n{SubmissionUnknownError.remedy}",
            status=reply.status,
            code=error.code,
            type=error.type,
            generation_id=generation_id,
            request_id=error.request_id,
        ) from None
    return generation_id


def _raise_for_refusal(response: Response, document: dict[str, Any]) -> None:
    """Raise the table's class if the response says beyond doubt that a submit was not accepted."""
    data = document.get("data")
    for part in (document, data if isinstance(data, dict) else {}):
        if any(part.get(name) is not None for name in _ID_NAMES):
            return  # whatever else it says, it may name what was paid for
    error, envelope = document.get("error"), document.get("code")
    if isinstance(error, dict):
        code = error.get("code")
        if isinstance(code, str) and (response.status, code) in ERROR_REFERENCE:
            kind, message = single_line(error.get("type")), single_line(error.get("message"))
            _raise_error(response, code, kind, response.status, message, None)
    # With an error beside it that isn't the table's, an envelope's code could be anybody's.
    if error or not isinstance(envelope, int) or envelope not in _REFUSING_ENVELOPES:
        return
    if 200 <= response.status < 300 or response.status == envelope:
        _raise_error(response, None, None, envelope, single_line(document.get("msg")), None)


def _generation_id_in(document: dict[str, Any]) -> str | None:
    data = document.get("data")
    try:
        return parse_generation_id(data.get("taskId") if isinstance(data, dict) else None)
    except ValueError:
        return None


def parse_generation(reply: Reply, generation_id: str) -> Generation:
    """Return the generation as the API describes it now.

    :raises UnreadableResponseError: when the response isn't a generation, or is another one.
    """
    response = _require_response(reply, generation_id)
    document = response.document or {}
    # A failed generation carries an "error" as well; only a response without a status is an error itself.
    if not 200 <= response.status < 300 or "status" not in document:
        _raise_for_error(response, generation_id)
    try:
        told_at = parse_http_date(response.headers.get("date")) or response.at
        generation = Generation.model_validate({**document, "told_at": told_at})
    except ValidationError as error:
        fields = ", ".join(sorted({".".join(map(str, details["loc"])) for details in error.errors()}))
        what = f"these fields are missing or not what the document says: {fields}"
        _raise_unreadable(response, what, generation_id)
    if generation.id != generation_id:
        _raise_unreadable(response, f"it is about another generation, {generation.id}", generation_id)
    return generation


# No account has a billion; and what Decimal would take besides ("1_0", "NaN", full-width digits) is no
# amount.
_AMOUNT: Final = re.compile(r"-?[0-9]{1,9}(\.[0-9]{1,18})?")

# The API's own name first. What was bought or used in all (total_…) is never the balance.
_BALANCE_NAMES: Final = (
    "balance",
    "credits",
    "remaining",
    "remaining_credits",
    "available_credits",
    "credit_balance",
    "remainingCredits",
    "availableCredits",
)


def parse_balance(reply: Reply) -> Decimal:
    """Return the account's credits.

    The API document doesn't say what the response looks like. Seen: an envelope whose ``data`` has
    ``balance`` beside ``total_purchased`` and ``total_consumed``. Other plausible shapes are read, too.

    :raises UnreadableResponseError: saying plainly that the balance can't be read.
    """
    response = _require_response(reply)
    _raise_for_error(response)
    found: object = response.document
    # At most: the envelope, "data", and a table of kinds of credits.
    for _ in range(3):
        if isinstance(found, dict):
            found = next(
                (found[name] for name in ("data", *_BALANCE_NAMES) if found.get(name) is not None), None
            )
    amount = _AMOUNT.fullmatch(str(found).strip())
    if amount is None:
        what = "it holds no amount of credits (the API document does not say what it looks like)"
        _raise_unreadable(response, what)
    return Decimal(amount[0])


def _require_response(reply: Reply, generation_id: str | None = None) -> Response:
    if isinstance(reply, NoResponse):
        message = f"No response from {reply.api}.\n{reply.reason}. Reading costs nothing.\n{reply.remedy}"
        raise ConnectionFailedError(message, generation_id=generation_id)
    return reply


def _raise_for_error(response: Response, generation_id: str | None = None) -> None:
    """Raise what a response says went wrong; return when it is a success of the API's own."""
    document = response.document
    if document is None:
        _raise_unreadable(response, "it is not a JSON object", generation_id)
    error = document.get("error")
    if isinstance(error, dict):
        code, kind, message = (single_line(error.get(name)) for name in ("code", "type", "message"))
        # In a server error only the API's own words count: gateways have such objects too, with a number for
        # a code.
        if code or kind or (message and response.status < 500):
            _raise_error(response, code, kind, response.status, message, generation_id)
    envelope = document.get("code")
    if isinstance(envelope, int) and 400 <= envelope < 600:
        status = response.status if response.status >= 400 else envelope
        _raise_error(response, None, None, status, single_line(document.get("msg")), generation_id)
    if isinstance(envelope, int) and (isinstance(envelope, bool) or envelope != 200):
        _raise_unreadable(response, "its code is neither 200 nor an error's", generation_id)
    if not 200 <= response.status < 300:
        _raise_unreadable(response, "it is not one of the API's", generation_id)


def _raise_error(
    response: Response,
    code: str | None,
    type: str | None,
    status: int,
    message: str | None,
    generation_id: str | None,
) -> NoReturn:
    error = error_class(code=code, type=type, status=status)
    retry_after = parse_retry_after(response.headers.get("retry-after"), now=response.at)
    later = f"The API asks to wait {retry_after:g} s.\n" if retry_after is not None else ""
    raise error(
        f"{message or 'The API gave no message.'} ({status} {code or type or 'without a code'}).\n"
        f"{later}{error.remedy}".rstrip(),
        status=status,
        code=code,
        type=type,
        retry_after=retry_after,
        generation_id=generation_id,
        request_id=single_line(response.headers.get("x-request-id")),
    )


def _raise_unreadable(response: Response, what: str, generation_id: str | None = None) -> NoReturn:
    where = response.headers.get("location")
    elsewhere = (
        f"; it redirects to {quote(where)}, where the API key is not sent" if where is not None else ""
    )
    raise UnreadableResponseError(
        f"The response (HTTP {response.status}) can't be read: {what}{elsewhere}. It begins "
        f"{quote(response.excerpt, 120)}.",
        status=response.status,
        retry_after=parse_retry_after(response.headers.get("retry-after"), now=response.at),
        generation_id=generation_id,
        request_id=single_line(response.headers.get("x-request-id")),
    )
