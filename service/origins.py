"""Origins as browsers write them (RFC 6454, section 6.2): the only form in which they can be compared as text."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

DEFAULT_PORTS = {"http": 80, "https": 443}


def serialize(url: str) -> str | None:
    """Return the origin of a URL: scheme, host and port, in lower case. None for what is no http or https URL."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        # A bracket without its other half, a port that is no number: whoever sent it, it names no origin.
        return None
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + ("" if port in (None, DEFAULT_PORTS[parts.scheme]) else f":{port}")


def is_loopback(host: str) -> bool:
    """Whether a host is this very machine: localhost, or an address of its own network."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
