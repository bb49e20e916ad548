"""Which hosts are this machine. The emulator is reached from here and calls back to here, nowhere else."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str | None) -> bool:
    """Whether a host name or address is this machine; without asking DNS, which could say anything."""
    if host is None:
        return False
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
