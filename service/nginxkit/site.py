"""What differs from host to host, and the files of nginx's ``site/`` that say it.

A value that would end its directive, or begin another, is refused: these files are configuration, not data.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

#: Descriptors of a worker of nginx that are no connections: listeners, logs, the channel to the master, bodies in files.
SPARE_DESCRIPTORS = 544
#: Listeners, and what nginx's processes speak by.
OWN_CONNECTIONS = 16
#: nginx takes this much more than the service does, so that the service, which knows the bound, explains it.
MARGIN_BYTES = 1 << 20
#: Silence after which nginx gives a stream up, in keepalives of the service.
KEEPALIVES = 4
#: The first version that knows `http2 on;`, and warns about the word in `listen`.
HTTP2_DIRECTIVE = (1, 25, 1)
#: How many connections the kernel may queue for nginx; it has the last word by net.core.somaxconn.
BACKLOG = 4096

Version = tuple[int, int, int]

_WORD = re.compile(r"[^\s;{}\"'\\$#]+")
_PATH = re.compile(r"[^\x00-\x1f\x7f\"\\$]+")


class SiteError(ValueError):
    """A value that cannot be written into nginx's configuration. The text says which and why."""


@dataclass(frozen=True, kw_only=True)
class TLS:
    """The TLS server: where it listens, its certificate, and what it promises to browsers."""

    certificate: Path
    key: Path
    listen: Sequence[str] = ("8443",)
    http3: bool = False
    #: Seconds for which browsers shall come by https only; 0 says nothing of it.
    hsts: int = 0
    #: The DNS server by which the certificate's OCSP responder is found; None staples nothing.
    ocsp_resolver: str | None = None


@dataclass(frozen=True, kw_only=True)
class Site:
    """What is None, or empty, stays as shipped.

    ``listen`` are what nginx's directive takes (``8080``, ``127.0.0.1:8080``), ``upstream`` too (``unix:/path``,
    ``host:port``); ``trusted`` and ``proxies`` are addresses or networks; ``keepalive``, ``max_body_bytes`` and
    ``max_upload_bytes`` are the service's settings of these names, from which nginx's numbers follow.
    """

    listen: Sequence[str] = ()
    names: Sequence[str] = ()
    upstream: Sequence[str] = ()
    access_log: str | None = None
    trusted: Sequence[str] | None = None
    proxies: Sequence[str] = ()
    #: Processes of nginx; None is one a core.
    workers: int | None = None
    user: str | None = None
    #: Streams of one worker of nginx.
    streams: int | None = None
    #: Of one address: streams and uploads at a time, publishes and new streams a second.
    streams_per_client: int | None = None
    uploads_per_client: int | None = None
    publish_rate: int | None = None
    connect_rate: int | None = None
    #: New streams a second of all addresses together.
    arrival_rate: int | None = None
    keepalive: float | None = None
    max_body_bytes: int | None = None
    max_upload_bytes: int | None = None
    #: Where nginx's own counters are told; loopback.
    status: str | None = None
    #: The folder of the page, sent by nginx itself.
    page: Path | None = None
    tls: TLS | None = None

    @property
    def connections(self) -> int | None:
        """The connections of a worker: two for each stream, the client's and gunicorn's, its own, and a sixteenth to spare.

        When less is free nginx makes room: it closes connections whose request has not come (`ngx_drain_connections`).
        """
        return None if self.streams is None else -(-(2 * self.streams + OWN_CONNECTIONS) * 16 // 15)

    @property
    def descriptors(self) -> int | None:
        """The descriptors that a worker needs for them."""
        return None if self.connections is None else self.connections + SPARE_DESCRIPTORS


def rendered(site: Site, version: Version | None) -> dict[str, str]:
    """Return the files of ``site/`` that are not as shipped, by name. Raises `SiteError`.

    ``version`` is nginx's; None writes what every version understands.
    """
    return {name: "".join(f"{line}\n" for line in lines) for name, lines in _files(site, version) if lines}


def _files(site: Site, version: Version | None) -> Iterator[tuple[str, list[str]]]:
    if site.listen or site.names:
        yield "listen.conf", [*_listens(site.listen or ("8080",)), _server_name(site.names)]
    yield "upstream.conf", [f"server {_word('upstream', address)};" for address in site.upstream]
    if site.access_log is not None:
        off = site.access_log == "off"
        yield (
            "access-log.conf",
            ["access_log off;" if off else f"access_log {_path('access log', site.access_log)} json;"],
        )
    if site.trusted is not None:
        # A file of its own words even when nobody is trusted.
        yield "trusted.conf", ["# Nobody is trusted.", *(f"{_network('trusted', each)} 1;" for each in site.trusted)]
    if site.proxies:
        networks = [_network("proxy", each) for each in site.proxies]
        believed = [f"set_real_ip_from {each};" for each in networks]
        yield "real-ip.conf", ["real_ip_header X-Forwarded-For;", "real_ip_recursive on;", *believed]
        yield "scheme.conf", list(_scheme(networks))
    if site.user is not None or site.workers is not None:
        lines = [] if site.user is None else [f"user {_word('user', site.user)};"]
        yield "process.conf", [*lines, f"worker_processes {site.workers or 'auto'};"]
    if site.streams is not None:
        yield "descriptors.conf", [f"worker_rlimit_nofile {site.descriptors};"]
        yield "connections.conf", [f"worker_connections {site.connections};"]
    if (site.publish_rate, site.connect_rate, site.arrival_rate) != (None, None, None):
        rates = {"publish": site.publish_rate or 100, "connect": site.connect_rate or 50}
        lines = [f"limit_req_zone $limited_address zone={zone}:10m rate={rate}r/s;" for zone, rate in rates.items()]
        yield "rates.conf", [*lines, f"limit_req_zone arrivals zone=arrivals:64k rate={site.arrival_rate or 2000}r/s;"]
    if site.streams_per_client is not None:
        yield "streams.conf", [f"limit_conn streams {site.streams_per_client};"]
    if site.max_body_bytes is not None:
        yield "bodies.conf", [_size(site.max_body_bytes)]
    if site.max_upload_bytes is not None or site.uploads_per_client is not None:
        size = _size(64 << 20 if site.max_upload_bytes is None else site.max_upload_bytes)
        yield "uploads.conf", [size, f"limit_conn uploads {site.uploads_per_client or 4};"]
    if site.keepalive is not None:
        yield "silence.conf", [f"proxy_read_timeout {round(KEEPALIVES * site.keepalive * 1000)}ms;"]
    if site.status is not None:
        yield "status.conf", [f"listen {_loopback(site.status)};", "server_name _;"]
    if site.page is not None:
        yield "page.conf", [f"set $page_folder {_path('page', site.page)};", "include snippets/server/page.conf;"]
    if site.tls is not None:
        yield "tls.conf", list(_tls(site.tls, site.names, version))
        yield "transport.conf", list(_transport(site.tls))


def _tls(tls: TLS, names: Sequence[str], version: Version | None) -> Iterator[str]:
    directive = version is not None and version >= HTTP2_DIRECTIVE
    yield from _listens(tls.listen, "ssl" if directive else "ssl http2")
    if directive:
        yield "http2 on;"
    if tls.http3:
        # One socket a worker, so that the kernel sends all packets of a connection to the same one.
        yield from (f"listen {_address(address)} quic reuseport default_server;" for address in tls.listen)
    yield _server_name(names)
    yield f"ssl_certificate {_path('certificate', tls.certificate)};"
    yield f"ssl_certificate_key {_path('key', tls.key)};"
    if tls.ocsp_resolver is not None:
        yield "ssl_stapling on;"
        yield f"resolver {_word('OCSP resolver', tls.ocsp_resolver)};"


def _transport(tls: TLS) -> Iterator[str]:
    port = tls.listen[0].rpartition(":")[2]
    promises = {
        "strict_transport": f"max-age={tls.hsts}" if tls.hsts else "",
        "alternative_service": f'h3=\\":{port}\\"; ma=86400' if tls.http3 else "",
    }
    for variable, value in promises.items():
        yield (
            f'map $https ${variable} {{ default ""; on "{value}"; }}'
            if value
            else f'map $https ${variable} {{ default ""; }}'
        )


def _listens(addresses: Sequence[str], words: str = "") -> list[str]:
    words = " ".join(filter(None, (words, "default_server", f"backlog={BACKLOG}")))
    return [f"listen {_address(address)} {words};" for address in addresses]


def _server_name(names: Sequence[str]) -> str:
    return "server_name " + " ".join(_word("name", name) for name in names or ("_",)) + ";"


def _address(text: str) -> str:
    """A port, ADDRESS:PORT or [ADDRESS]:PORT, as `listen` takes it."""
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise SiteError(f"{text!r} is not PORT, ADDRESS:PORT or [ADDRESS]:PORT")
    if host and host != "*":
        _word("address", host)
    return text


def _loopback(text: str) -> str:
    host = _address(text).rpartition(":")[0].strip("[]")
    try:
        is_loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise SiteError(f"status {text!r}: nginx's counters are for this machine only; use 127.0.0.1:PORT")
    return text


def _scheme(proxies: Sequence[str]) -> Iterator[str]:
    """Yield what believes X-Forwarded-Proto of proxies, by the connection's address: $remote_addr is the client's by now."""
    networks = " ".join(f"{each} 1;" for each in proxies if each != "unix:")
    sockets = '"~^unix:" 1;' if "unix:" in proxies else ""
    yield f"geo $realip_remote_addr $from_network {{ default 0; {networks} }}"
    yield f"map $realip_remote_addr $from_proxy {{ default $from_network; {sockets} }}"
    yield 'map "$from_proxy:$http_x_forwarded_proto" $client_scheme {'
    yield "    default $scheme; 1:https https; 1:http http;"
    yield "}"


def _network(what: str, text: str) -> str:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        if what == "proxy" and text == "unix:":
            return text
        raise SiteError(f"{what} {text!r} is neither an address nor a network such as 10.0.0.0/8") from None
    return text


def _word(what: str, text: str) -> str:
    if not _WORD.fullmatch(text):
        raise SiteError(f"{what} {text!r} has characters that mean something else in nginx's configuration")
    return text


def _path(what: str, path: str | Path) -> str:
    if not _PATH.fullmatch(str(path)):
        raise SiteError(f"{what} {str(path)!r} has characters that mean something else in nginx's configuration")
    return f'"{path}"'


def _size(service_bytes: int) -> str:
    return f"client_max_body_size {service_bytes + MARGIN_BYTES};"
