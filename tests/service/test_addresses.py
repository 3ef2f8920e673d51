"""Whom a request comes from: what may be believed of X-Forwarded-For, and what a client can invent."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from sse_kit.addresses import Addresses
from sse_kit.settings import Settings

PROXIES = Addresses(["127.0.0.1", "::1", "10.0.0.0/8", "fd00::/8"])


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        # A proxy that is believed says who it is.
        ("10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("::1", "198.51.100.7", "198.51.100.7"),
        # So does whoever may connect to the unix socket.
        ("", "198.51.100.7", "198.51.100.7"),
        # Through two of them: the nearest is at the end.
        ("10.0.0.1", "198.51.100.7, 10.9.9.9", "198.51.100.7"),
        # Whatever the client has written itself stands before that, and is never looked at.
        ("10.0.0.1", "203.0.113.1, 198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "127.0.0.1, 198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "127.0.0.1,198.51.100.7 , 10.1.1.1", "198.51.100.7"),
        ("", "1.1.1.1, 2.2.2.2, 198.51.100.7", "198.51.100.7"),
        # Nobody else is believed, whatever it says.
        ("198.51.100.7", "203.0.113.1", "198.51.100.7"),
        ("198.51.100.7", "127.0.0.1", "198.51.100.7"),
        ("198.51.100.7", None, "198.51.100.7"),
        # IPv6: what one customer has, however many addresses that is; and IPv4 behind a listener for both.
        ("2001:db8:1:2::3", None, "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", None, "2001:db8:1:2::/64"),
        ("::ffff:198.51.100.7", None, "198.51.100.7"),
        ("::ffff:10.0.0.1", "198.51.100.7", "198.51.100.7"),
        # With a port, as some gateways write it.
        ("10.0.0.1", "198.51.100.7:50123", "198.51.100.7"),
        ("10.0.0.1", "[2001:db8:1:2::3]:50123", "2001:db8:1:2::/64"),
        ("10.0.0.1", "[2001:db8:1:2::3]", "2001:db8:1:2::/64"),
        ("10.0.0.1", "198.51.100.7:50123, 10.9.9.9:80", "198.51.100.7"),
        ("10.0.0.1", "198.51.100.7:port", None),
        # One of ours: no client.
        ("127.0.0.1", None, None),
        ("10.0.0.1", "127.0.0.1", None),
        ("", None, None),
        ("", "", None),
        # What is no address was written by nobody whom we could tell apart.
        ("10.0.0.1", "unknown", None),
        ("10.0.0.1", "198.51.100.7, \x00\x01", None),
    ],
)
def test_whom_a_request_comes_from(peer: str, forwarded: str | None, address: str | None) -> None:
    """The address is the last one that no believed proxy has; a client cannot choose it."""
    environ = {"REMOTE_ADDR": peer} | ({} if forwarded is None else {"HTTP_X_FORWARDED_FOR": forwarded})

    assert PROXIES.of(environ) == address


def test_any_proxy_is_one_hop() -> None:
    """Who believes whoever is connected believes what it has written last, and not what it was told."""
    everybody = Addresses(["*"])

    assert everybody.of({"REMOTE_ADDR": "192.0.2.1", "HTTP_X_FORWARDED_FOR": "1.1.1.1, 198.51.100.7"}) == "198.51.100.7"


@pytest.mark.parametrize("proxies", ["127.0.0.1, proxy.internal", "10.0.0.0/33", "1.2.3"])
def test_proxies_are_addresses(proxies: str) -> None:
    """A setting that names something else is refused at the start, where it can still be told."""
    with pytest.raises(ValidationError, match="forwarded_allow_ips"):
        Settings(forwarded_allow_ips=proxies)
