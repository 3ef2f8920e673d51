"""What differs from host to host, as nginx's own words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sse_kit.nginxkit.files import SHIPPED, render
from sse_kit.nginxkit.site import TLS, Site, SiteError, rendered
from sse_kit.settings import Settings

CERTIFICATE = {"certificate": Path("/c.pem"), "key": Path("/k.pem")}


def test_nothing_asked_for_is_nothing_changed() -> None:
    """A site without values has the shipped files and no other."""
    assert rendered(Site(), (1, 22, 1)) == {}


@pytest.mark.parametrize("version", [None, (1, 22, 1), (1, 25, 0)])
def test_http2_is_a_word_of_listen_in_old_versions(version: tuple[int, int, int] | None) -> None:
    """Up to 1.25.0 HTTP/2 is a word of `listen`, which later ones understand, too."""
    text = rendered(Site(tls=TLS(**CERTIFICATE)), version)["tls.conf"]

    assert "listen 8443 ssl http2 default_server" in text
    assert "http2 on;" not in text


@pytest.mark.parametrize("version", [(1, 25, 1), (1, 31, 3), (2, 0, 0)])
def test_http2_is_a_directive_in_new_versions(version: tuple[int, int, int]) -> None:
    """From 1.25.1 on HTTP/2 is a directive of its own, and the word would be warned about."""
    text = rendered(Site(tls=TLS(**CERTIFICATE)), version)["tls.conf"]

    assert "listen 8443 ssl default_server" in text
    assert "\nhttp2 on;\n" in text


def test_http3_is_told_to_browsers() -> None:
    """HTTP/3 listens where TLS does, on UDP, and each answer over TLS names its port."""
    files = rendered(Site(tls=TLS(**CERTIFICATE, listen=["10.0.0.1:443"], http3=True)), (1, 26, 3))

    assert "listen 10.0.0.1:443 quic reuseport default_server;" in files["tls.conf"]
    assert 'h3=\\":443\\"; ma=86400' in files["transport.conf"]


def test_a_stream_takes_two_descriptors() -> None:
    """Connections and descriptors of a worker follow from its streams, as the shipped numbers do."""
    files = rendered(Site(streams=9112), None)

    assert files["connections.conf"] == "worker_connections 19456;\n"
    assert files["descriptors.conf"] == "worker_rlimit_nofile 20000;\n"
    assert all(text in (SHIPPED / "site" / name).read_text() for name, text in files.items())


def test_sizes_and_silence_follow_from_the_service_s_settings() -> None:
    """What nginx takes, and how long it waits, is derived from the service's numbers; from its defaults, what is shipped."""
    settings = Settings()
    files = rendered(
        Site(
            keepalive=settings.keepalive,
            max_body_bytes=settings.max_body_bytes,
            max_upload_bytes=settings.max_upload_bytes,
            uploads_per_client=settings.max_jobs,
        ),
        None,
    )

    assert files["silence.conf"] == "proxy_read_timeout 60000ms;\n"
    assert files["bodies.conf"] == f"client_max_body_size {2 << 20};\n"
    assert files["uploads.conf"] == f"client_max_body_size {65 << 20};\nlimit_conn uploads 4;\n"


def test_a_proxy_is_believed_whom_and_how_the_client_speaks() -> None:
    """A proxy has its lines in the file of addresses and in that of schemes, a unix socket too, and in no other."""
    files = rendered(Site(proxies=["192.0.2.1", "unix:"]), None)

    assert set(files) == {"real-ip.conf", "scheme.conf"}
    assert "set_real_ip_from 192.0.2.1;\nset_real_ip_from unix:;\n" in files["real-ip.conf"]
    assert "default 0; 192.0.2.1 1; }" in files["scheme.conf"]
    assert '"~^unix:" 1;' in files["scheme.conf"]


@pytest.mark.parametrize(
    ("values", "file", "line"),
    [
        ({"upstream": ["unix:/a", "b:1"]}, "upstream.conf", "server unix:/a;\nserver b:1;\n"),
        ({"names": ["a.example", "*.b.example"]}, "listen.conf", "server_name a.example *.b.example;\n"),
        ({"trusted": ["10.0.0.0/8", "::1"]}, "trusted.conf", "10.0.0.0/8 1;\n::1 1;\n"),
        ({"access_log": "off"}, "access-log.conf", "access_log off;\n"),
        ({"access_log": "/var/log/a b.log"}, "access-log.conf", 'access_log "/var/log/a b.log" json;\n'),
        ({"user": "www-data"}, "process.conf", "user www-data;\nworker_processes auto;\n"),
        ({"workers": 3}, "process.conf", "worker_processes 3;\n"),
        ({"streams_per_client": 7}, "streams.conf", "limit_conn streams 7;\n"),
        ({"connect_rate": 3}, "rates.conf", "zone=connect:10m rate=3r/s;\n"),
        ({"status": "[::1]:81"}, "status.conf", "listen [::1]:81;\n"),
    ],
)
def test_each_value_has_its_line(values: dict[str, Any], file: str, line: str) -> None:
    """A value is written into the file that is named for it, and into no other."""
    (name,) = files = rendered(Site(**values), None)

    assert name == file
    assert line in files[file]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"listen": ["80; root /"]}, "'80; root /' is not PORT"),
        ({"listen": ["a b:80"]}, "address 'a b' has characters"),
        ({"listen": ["70000"]}, "'70000' is not PORT"),
        ({"names": ["a;b"]}, "name 'a;b' has characters"),
        ({"upstream": ["unix:/a b"]}, "upstream 'unix:/a b' has characters"),
        ({"user": ""}, "user '' has characters"),
        ({"access_log": '/a";x'}, "access log '/a\";x' has characters"),
        ({"page": Path("/a$b")}, "page '/a$b' has characters"),
        ({"trusted": ["everybody"]}, "trusted 'everybody' is neither an address"),
        ({"proxies": ["10.0.0.0/99"]}, "proxy '10.0.0.0/99' is neither an address"),
        ({"status": "8081"}, "status '8081': nginx's counters are for this machine only"),
        ({"status": "10.0.0.1:8081"}, "nginx's counters are for this machine only"),
    ],
)
def test_what_cannot_be_written_is_refused(values: dict[str, Any], reason: str, tmp_path: Path) -> None:
    """A value that would end its directive, or means nothing, is an error that names it, before anything is written."""
    with pytest.raises(SiteError) as caught:
        render(tmp_path / "kit", Site(**values))

    assert reason in str(caught.value)
    assert list(tmp_path.iterdir()) == []
