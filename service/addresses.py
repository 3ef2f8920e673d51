"""Whom a request comes from, by address: what a proxy that is believed says, and nothing that a client invents."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

# What one customer of a provider usually has: a limit for each of its 2^64 addresses would be none.
_IPV6_PREFIX = 64
# Of very many clients each comes once: what is remembered of them is for those that publish, and for proxies.
_REMEMBERED = 512
_ALL = "*"


class Addresses:
    """Finds the address of a client. ``proxies`` are addresses and networks that are believed, as in
    ``forwarded_allow_ips``; ``*`` believes whoever is connected, and only that one hop. Thread-safe.

    Raises `ValueError` for what is neither.
    """

    def __init__(self, proxies: Iterable[str]) -> None:
        names = [name.strip() for name in proxies if name.strip()]
        self._all = _ALL in names
        self._networks = tuple(ip_network(name, strict=False) for name in names if name != _ALL)
        self._is_believed = lru_cache(_REMEMBERED)(self._find)

    def of(self, environ: Mapping[str, Any]) -> str | None:
        """Return what the limits of one address count: an IPv4 address, or the first 64 bits of an IPv6 address.

        None for a client on this machine or a proxy that is believed itself: health checks, a load test, a process that
        publishes. ``X-Forwarded-For`` is read from its end, where the nearest proxy has written, up to the first address that
        no believed proxy has; all before that is the client's own invention.
        """
        peer = str(environ.get("REMOTE_ADDR") or "")
        # The peer of a unix socket has no address: who may connect is the file's mode.
        if peer and not self._all and not self._is_believed(peer):
            return _key(peer)
        forwarded = environ.get("HTTP_X_FORWARDED_FOR")
        if not forwarded:
            return None
        hops = [hop.strip() for hop in str(forwarded).split(",")]
        for hop in reversed(hops):
            if not self._is_believed(hop):
                return _key(hop)
            if self._all:
                break
        return None

    def _find(self, name: str) -> bool:
        address = _parse(name)
        return address is not None and any(address in network for network in self._networks)


def check_proxies(text: str) -> str:
    """Return ``text``, the value of a setting, if it lists addresses and networks; raise `ValueError` if not."""
    Addresses(text.split(","))
    return text


# Some gateways write the client's port as well (Azure's do), and then brackets around an IPv6 address.
_WITH_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::[0-9]{1,5})?")


def _parse(name: str) -> IPv4Address | IPv6Address | None:
    found = _WITH_PORT.fullmatch(name)
    try:
        address = ip_address(found[1] or found[2] if found else name)
    except ValueError:
        return None
    # Of a listener for both: the same client as without the prefix.
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


@lru_cache(_REMEMBERED)
def _key(name: str) -> str | None:
    # A hop that is no address was written by nobody whom we could tell apart.
    address = _parse(name)
    if address is None:
        return None
    if isinstance(address, IPv6Address):
        return str(IPv6Network((int(address), _IPV6_PREFIX), strict=False))
    return str(address)
