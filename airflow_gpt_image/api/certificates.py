"""Read the certificates that servers are verified with: one idea of trust for the API and for images.

The connection's bundle counts, else what SSL_CERT_FILE or SSL_CERT_DIR of the environment names, else the
certificates that come with certifi. All of it is read when a client is built, before anything is paid for.
"""

from __future__ import annotations

import os
import re
import ssl
import stat
from functools import partial
from pathlib import Path
from typing import Final

import httpx

from airflow_gpt_image.api.blocking import in_thread
from airflow_gpt_image.api.text import quote_setting
from airflow_gpt_image.errors import InvalidSettingsError

# All certificates of the public internet take a quarter of a megabyte.
_MOST_BYTES: Final = 16 * 1024 * 1024

# How OpenSSL wants the files of a folder to be called; others in it are not read.
_HASHED: Final = re.compile(r"[0-9a-f]{8}\.[0-9]+")

_READ_SECONDS: Final = 10.0

_EXAMPLE: Final = "/etc/ssl/certs/ca-certificates.crt"


def ssl_context(verify: bool | str) -> ssl.SSLContext:
    """Return what servers are verified with.

    :param verify: as :class:`~airflow_gpt_image.api.settings.ClientSettings` has it.
    :raises InvalidSettingsError: when the bundle, the connection's or the environment's, can't be read.
    """
    if isinstance(verify, str):
        return load_ca_bundle(verify)
    if verify:
        # As httpx and OpenSSL have it: the file first, and an empty value is none.
        if file := os.environ.get("SSL_CERT_FILE"):
            return _load("SSL_CERT_FILE", file, [file], folders=False)
        if folders := os.environ.get("SSL_CERT_DIR"):
            return _load("SSL_CERT_DIR", folders, folders.split(os.pathsep), folders=True)
    return httpx.create_ssl_context(verify=verify, trust_env=False)


def load_ca_bundle(
    ca_bundle: object, *, name: str = "verify", seconds: float = _READ_SECONDS
) -> ssl.SSLContext:
    """Read a CA bundle: the path of a PEM file, or of a folder of them ending in ``/``.

    :param name: the setting's name in a message.
    :param seconds: how long that may take: a file on a mount that is gone is never read to its end.
    :raises InvalidSettingsError: when it can't be read.
    """
    if not isinstance(ca_bundle, str) or not ca_bundle:
        raise _refused(name, ca_bundle, "is not a path")
    return _load(name, ca_bundle, [ca_bundle], folders=ca_bundle.endswith("/"), seconds=seconds)


def _load(
    name: str, value: str, paths: list[str], *, folders: bool, seconds: float = _READ_SECONDS
) -> ssl.SSLContext:
    reading = in_thread(partial(_read, paths, folders=folders))
    try:
        return reading.result(seconds)
    except TimeoutError:
        raise _refused(name, value, f"could not be read within {seconds:g} s") from None
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError; ValueError: a NUL in the path
        raise _refused(name, value, f"can't be read ({type(error).__name__})") from None


def _read(paths: list[str], *, folders: bool) -> ssl.SSLContext:
    files = [file for path in paths for file in _hashed_files(path)] if folders else paths
    if not files:
        # To OpenSSL that is no error, only a folder that trusts nobody.
        raise FileNotFoundError("no certificates")
    # Looked at before they are opened: a pipe would be waited for, and a device never ends.
    sizes = [_size(file) for file in files]
    if sum(sizes) > _MOST_BYTES:
        raise ValueError("too large")
    context = ssl.create_default_context(cafile=files[0])
    for file in files[1:]:
        context.load_verify_locations(cafile=file)
    return context


def _hashed_files(folder: str) -> list[str]:
    # Read now, all of them: OpenSSL would read each in the middle of a handshake, on an event loop.
    with os.scandir(folder) as entries:
        return sorted(entry.path for entry in entries if _HASHED.fullmatch(entry.name) and entry.is_file())


def _size(path: str) -> int:
    status = Path(path).stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError("not a regular file")
    return status.st_size


def _refused(name: str, value: object, what: str) -> InvalidSettingsError:
    rule = (
        "It must be the path of an existing PEM file, or of a folder prepared by `openssl rehash`;\n"
        "in a connection a folder ends in '/'."
    )
    remedy = f"For example {_EXAMPLE}."
    if name.startswith("SSL_CERT_"):
        rule += (
            "\nIt is read before anything is paid for, also for an API over plain http:\n"
            "images may come over https."
        )
        remedy = (
            f"Mend or unset it in the environment, or set the connection's ca_bundle,\nsuch as {_EXAMPLE}."
        )
    return InvalidSettingsError(
        f"{name}={quote_setting(value)} {what}, so it is no CA bundle.\n{rule}\n{remedy}"
    )
