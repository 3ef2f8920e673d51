"""Where Redis is: what a URL says, checked, without connecting."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection, parse_url

from sse_core.errors import ConfigurationError

#: Whoever connects: over TCP (or TLS, its subclass), or to a unix socket.
ConnectionClass = type[Connection | UnixDomainSocketConnection]
Kind = Literal["standalone", "sentinel", "cluster"]
_SCHEME = re.compile(r"(redis|rediss|valkey|valkeys)(\+(?:sentinel|cluster))?|unix")
_FORMS = (
    "redis://host:port/db, rediss:// (TLS), unix:///path?db=0, redis+sentinel://host:port,host:port/service/db, "
    "redis+cluster://host:port,host:port"
)
#: What the kit itself decides about a connection.
_RESERVED = {"decode_responses", "encoding", "encoding_errors", "protocol", "retry", "retry_on_error", "client_name"}


@dataclass(frozen=True)
class Place:
    """A parsed URL. ``hosts`` are to be asked for the primary, or are it; none for a unix socket."""

    kind: Kind
    connection_class: ConnectionClass
    hosts: tuple[tuple[str, int], ...] = ()
    service: str = ""
    #: Keyword arguments of a connection: user, password, database, path, options of TLS.
    options: Mapping[str, Any] = field(default_factory=dict)
    #: Keyword arguments of a connection to a sentinel.
    sentinel_options: Mapping[str, Any] = field(default_factory=dict)


def parse(url: str) -> Place:
    """Return what a URL says. Raise `ConfigurationError`, whose message has no password in it."""
    scheme, separator, rest = url.partition("://")
    known = _SCHEME.fullmatch(scheme)
    if not (known and separator):
        raise ConfigurationError(f"backplane: no URL of Redis; the forms are {_FORMS}")
    if scheme == "unix":
        return _checked(Place("standalone", UnixDomainSocketConnection, options=_options(url)))
    tls = known[1] in ("rediss", "valkeys")
    connection_class: ConnectionClass = SSLConnection if tls else Connection
    authority, _, path = rest.partition("?")[0].partition("/")
    user, at, listed = authority.rpartition("@")
    kind: Kind = known[2][1:] if known[2] else "standalone"  # type: ignore[assignment]
    hosts = tuple(_host(each, 26379 if kind == "sentinel" else 6379) for each in listed.split(","))
    query = rest.partition("?")[2]
    service = ""
    if kind == "sentinel":
        service, _, path = path.partition("/")
        if not service:
            raise ConfigurationError(
                f"backplane: the name of the sentinels' service is missing; the forms are {_FORMS}"
            )
    elif kind == "cluster" and path not in ("", "0"):
        raise ConfigurationError("backplane: a Cluster has one database, 0")
    elif kind == "standalone" and len(hosts) > 1:
        raise ConfigurationError(f"backplane: several hosts need +sentinel or +cluster; the forms are {_FORMS}")
    if path and not path.isdigit():
        raise ConfigurationError("backplane: a database is a number")
    options = _options(f"{'rediss' if tls else 'redis'}://{user}{at}host/{path or 0}?{query}")
    options.pop("host", None)
    sentinel_options = {name: value for name, value in options.items() if name.startswith("ssl_")}
    for name in ("username", "password"):
        value = options.pop(f"sentinel_{name}", None)
        if value is not None and kind == "sentinel":
            sentinel_options[name] = value
    return _checked(
        Place(kind, connection_class, hosts, service, options, sentinel_options | ({"ssl": True} if tls else {}))
    )


def _host(text: str, default_port: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigurationError(f"backplane: {error}") from None
    if not host:
        raise ConfigurationError(f"backplane: a host is missing; the forms are {_FORMS}")
    return host, port or default_port


def _options(url: str) -> dict[str, Any]:
    try:
        options: dict[str, Any] = parse_url(url)
    except ValueError as error:
        raise ConfigurationError(f"backplane: {error}") from None
    options.pop("connection_class", None)
    taken = _RESERVED & options.keys()
    if taken:
        raise ConfigurationError(f"backplane: {', '.join(sorted(taken))} cannot be set in the URL")
    return options


def _checked(place: Place) -> Place:
    options = {name: value for name, value in place.options.items() if name != "max_connections"}
    try:
        place.connection_class(**options)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"backplane: the URL's options: {error}") from None
    except Exception as error:
        raise ConfigurationError(f"backplane: {error}") from None
    return place
