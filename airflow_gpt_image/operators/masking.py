"""Keep signatures and callback addresses out of what Airflow itself stores of a task: its rendered fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from airflow.sdk import BaseOperator

# Airflow stores the first 4,096 characters of a field, and each secret slows down every line of the log.
_MOST: Final = 200
_DEEPEST: Final = 4


class MaskedOperator(BaseOperator):
    """Have Airflow show ``***`` for queries of addresses that may be signatures, and for ``callback_url``."""

    def _do_render_template_fields(self, parent: Any, *args: Any, **kwargs: Any) -> None:
        # What Airflow calls for tasks and for mapped ones, before it stores what was rendered.
        super()._do_render_template_fields(parent, *args, **kwargs)
        if parent is not self:
            return
        fields = {name: getattr(self, name) for name in self.template_fields}
        secrets = dict.fromkeys(islice(_secrets(fields), _MOST))
        if secrets:
            from airflow.sdk.log import mask_secret

            for secret in secrets:
                mask_secret(secret)


def _secrets(value: object, name: str = "", depth: int = 0) -> Iterator[str]:
    if isinstance(value, str):
        if "://" not in value:
            return
        if name == "callback_url":  # its path may be the token
            yield value
        elif "?" in value:
            from airflow_gpt_image.batch.redaction import secret_query

            yield from filter(None, (secret_query(word).removeprefix("?") for word in value.split()))
    elif depth < _DEEPEST and isinstance(value, Mapping):
        for key, item in value.items():
            yield from _secrets(item, str(key), depth + 1)
    elif depth < _DEEPEST and isinstance(value, Sequence) and not isinstance(value, bytes):
        for item in value:
            yield from _secrets(item, name, depth + 1)
