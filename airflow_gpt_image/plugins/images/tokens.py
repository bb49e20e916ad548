"""Names of files in addresses: signed, so that nobody can have a file served by naming it."""

from __future__ import annotations

import hashlib
from typing import Final, Self

from itsdangerous import BadData, URLSafeSerializer

_SALT: Final = "gpt-image file of a Dag"
# More than any path has; what is longer isn't looked at.
_LONGEST: Final = 8_192


class Tokens:
    """
    Signs paths for addresses. A token is about one path of one Dag, and the same each time, so that browsers
    keep what they have fetched. It is no permission: who uses it needs Airflow's for that Dag.

    :param secret: the same on all API servers.
    """

    def __init__(self, secret: str) -> None:
        self._signer = URLSafeSerializer(
            secret, _SALT, signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256}
        )

    @classmethod
    def from_config(cls) -> Self:
        """Sign with ``[api] secret_key``, as Airflow signs its own addresses of files."""
        from airflow.configuration import conf

        return cls(conf.get_mandatory_value("api", "secret_key"))

    def sign(self, dag_id: str, path: str) -> str:
        """Return the token of a path, for a Dag's addresses."""
        return str(self._signer.dumps([dag_id, path]))

    def verify(self, dag_id: str, token: str) -> str | None:
        """Return the path that a token is about; None when it is forged, cut, or another Dag's."""
        if len(token) > _LONGEST:
            return None
        try:
            read = self._signer.loads(token)
        except (BadData, UnicodeEncodeError):
            return None
        match read:
            case [str(of_dag), str(path)] if of_dag == dag_id:
                return path
        return None
