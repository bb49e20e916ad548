"""Decide what a host is: this machine, a public one, or none; whatever form its name is written in.

Nothing here resolves a name. What a name leads to is asked of :func:`is_public`, address by address.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

# The IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890 and what came after it, up to RFC 9780),
# and the IPv4 multicast addresses. Written down here, for what Python's own tables take for public depends on
# its version. The blocks that the registries call globally reachable are services of the network itself
# (anycast relays, AS112's name servers): no image comes from there.
_SPECIAL_IPV4: Final = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",  # private use
            "100.64.0.0/10",  # shared by the customers of a provider
            "127.0.0.0/8",  # loopback
            "169.254.0.0/16",  # link-local, with the clouds' metadata
            "172.16.0.0/12",  # private use
            "192.0.0.0/24",  # IETF protocol assignments
            "192.0.2.0/24",  # documentation
            "192.31.196.0/24",  # AS112
            "192.52.193.0/24",  # AMT
            "192.88.99.0/24",  # 6to4 relays
            "192.168.0.0/16",  # private use
            "192.175.48.0/24",  # AS112
            "198.18.0.0/15",  # benchmarking
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, and the broadcast address
        ),
    )
)

# All that IANA has given out as global unicast. What is outside is special or not assigned: loopback, unique
# local, link-local and site-local, multicast, SRv6, IPv4 in its compatible and translated forms.
_GLOBAL_IPV6: Final = ip_network("2000::/3")
_SPECIAL_IPV6: Final = tuple(
    map(
        ip_network,
        (
            "2001::/23",  # IETF protocol assignments: Teredo, benchmarking, AMT, AS112, ORCHID, drones
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4
            "2620:4f:8000::/48",  # AS112
            "3fff::/20",  # documentation
        ),
    )
)

# Two forms of IPv6 that lead exactly where the IPv4 address in their last 32 bits leads. The second is what a
# network without IPv4 has for every name (DNS64).
_IPV4_INSIDE: Final = (ip_network("::ffff:0:0/96"), ip_network("64:ff9b::/96"))

# Names that no public name server knows (RFC 6761, 6762, 8375, and ICANN's decision about "internal").
_NOT_PUBLIC: Final = re.compile(r"(?:.*\.)?(?:localhost|local|internal|home\.arpa)")

_NAME: Final = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_LONGEST_NAME: Final = 253

_NUMBER: Final = re.compile(r"0x[0-9a-f]+|[0-9]+")


@lru_cache(maxsize=1_024)
def normalize_host(host: str) -> str:
    """
    Return a host in the form that a resolver makes of it, so that two hosts can be compared.

    An address is in its one usual form, also where the resolver reads one in a name such as ``127.1``,
    ``0x7f.1`` or ``2130706433``. A name is in lower case and ASCII (IDNA), and without the root's dot. What
    is no host at all comes back in lower case.
    """
    name = host.lower()
    if not name.isascii():
        name = _ascii_name(name)
    name = name.rstrip(".")
    if is_ip_address(name):
        return str(ip_address(name))
    return _numeric_address(name) or name


def _ascii_name(name: str) -> str:
    import idna  # only here: hardly any host needs it

    if len(name) > _LONGEST_NAME:
        return name
    try:
        return idna.encode(name, uts46=True).decode("ascii")
    except UnicodeError:
        return name


def _numeric_address(name: str) -> str | None:
    """Return the IPv4 address that the C library's ``inet_aton`` reads in a name; None: it reads none."""
    parts = name.split(".")
    if len(name) > _LONGEST_NAME or len(parts) > 4 or not all(map(_NUMBER.fullmatch, parts)):
        return None
    try:
        *first, last = (int(part, _base(part)) for part in parts)
    except ValueError:  # an 8 or a 9 in an octal number
        return None
    if any(number > 255 for number in first) or last >= 256 ** (4 - len(first)):
        return None
    for index, number in enumerate(first):
        last += number << 8 * (3 - index)
    return str(IPv4Address(last))


def _base(number: str) -> int:
    if number.startswith("0x"):
        return 16
    return 8 if number.startswith("0") else 10


def is_ip_address(host: str) -> bool:
    """Return whether a host is an IP address and not a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=1_024)
def is_loopback(host: str) -> bool:
    """Return whether a host is this machine by name: ``localhost`` or a loopback address."""
    name = normalize_host(host)
    if name == "localhost":
        return True
    if not is_ip_address(name):
        return False
    ip = ip_address(name)
    mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
    return (mapped or ip).is_loopback


@lru_cache(maxsize=1_024)
def is_public(address: str) -> bool:
    """Return whether an IP address is one of the public internet: global unicast, and nothing special.

    An IPv6 address that stands for an IPv4 one (mapped, NAT64) is judged as that. One with a scope
    (``%eth0``) is no public one.
    """
    try:
        ip = _unwrapped(ip_address(address))
    except ValueError:
        return False
    if isinstance(ip, IPv4Address):
        return not any(ip in block for block in _SPECIAL_IPV4)
    special = any(ip in block for block in _SPECIAL_IPV6)
    return ip in _GLOBAL_IPV6 and not special and ip.scope_id is None


def _unwrapped(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    wrapped = isinstance(ip, IPv6Address) and ip.scope_id is None and any(ip in b for b in _IPV4_INSIDE)
    return IPv4Address(int(ip) & 0xFFFFFFFF) if wrapped else ip


def can_be_public(host: str) -> bool:
    """Return whether a host, as :func:`normalize_host` gives it, is a public address, or can be the name of
    one.
    """
    if is_ip_address(host):
        return is_public(host)
    # A last label that begins with a digit is an address in a form that some program reads differently.
    last = host.rpartition(".")[2]
    fits = len(host) <= _LONGEST_NAME and _NAME.fullmatch(host) is not None
    return fits and not last[0].isdigit() and _NOT_PUBLIC.fullmatch(host) is None
