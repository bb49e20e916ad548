"""Reference images on the user's own storage: signed for a while, just before they are submitted.

The signature goes to the API and nowhere else: records, fingerprints and XCom have the object.
"""

from __future__ import annotations

from typing import Final

from airflow_gpt_image.api.addresses import is_object
from airflow_gpt_image.api.models import ImageRequest
from airflow_gpt_image.api.text import quote
from airflow_gpt_image.errors import DestinationError, InvalidRequestError, Problem
from airflow_gpt_image.storage.folders import object_path
from airflow_gpt_image.storage.references import References

# S3 and Google sign for a week at most.
_LONGEST: Final = 7 * 24 * 3600
_SHORTEST: Final = 3600


def signed(request: ImageRequest, *, seconds: float, references: References) -> ImageRequest:
    """
    Return the request with addresses that anybody can read for a while, in place of objects on stores.

    :param seconds: how long they shall be valid; at least an hour is given, and at most a week.
    :param references: the objects that may be signed.
    :raises InvalidRequestError: when one may not be, a store can't sign, or Airflow doesn't know it.
    :raises DestinationError: when signing fails for another reason, which may pass.
    """
    if not any(map(is_object, request.image_urls)):
        return request
    references.check(request)
    valid = int(min(max(seconds, _SHORTEST), _LONGEST))
    urls = [
        _signed(index, url, valid) if is_object(url) else url for index, url in enumerate(request.image_urls)
    ]
    return ImageRequest(**{**request.model_dump(), "image_urls": urls})


def _signed(index: int, address: str, seconds: int) -> str:
    path = object_path(address)
    try:
        url = str(path.sign(expiration=seconds))
    except NotImplementedError:
        raise _refused(
            index,
            f"{quote(address)} is on a store that can't sign addresses, so the API can't read it. "
            "Put it on one that can, such as s3, gs or abfs, or give an https address.",
        ) from None
    except Exception as error:  # noqa: BLE001  # each store has errors of its own kind
        # Not the error's own text, nor itself: it may hold what the address was signed with.
        raise DestinationError(
            f"image_urls: item {index}: {quote(address)} could not be signed ({type(error).__name__})."
        ) from None
    if "?" not in url:
        # As s3fs does it for a connection without credentials.
        raise _refused(
            index,
            f"{quote(address)} comes without a signature: the store's connection has no credentials. Give it "
            "some, or give the https address of an object that everybody may read.",
        )
    return url


def _refused(index: int, rule: str) -> InvalidRequestError:
    message = f"item {index}: {rule}"
    return InvalidRequestError(f"image_urls: {message}", problems=[Problem("image_urls", message)])
