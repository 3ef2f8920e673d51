#!/usr/bin/env python3
"""Make a folder that nginx can run in with the shipped configuration: `nginx -p PREFIX -c PREFIX/nginx.conf`.

The configuration is linked, not copied or edited; only the one-line files of ``site/`` that were asked for are written.
Everything nginx writes (pid, logs, temporary files) lands in the same folder.
"""

from __future__ import annotations

import argparse
import os
import pwd
import shutil
from pathlib import Path

SHIPPED = Path(__file__).resolve().parent.parent / "nginx"


def render(
    prefix: Path,
    *,
    listen: str | None = None,
    upstream: str | None = None,
    access_log: str | None = None,
    trusted: list[str] | None = None,
    proxies: list[str] | None = None,
    tls: tuple[str, Path, Path] | None = None,
) -> Path:
    """Lay out ``prefix`` and return the path of its nginx.conf. Safe to repeat: what was there is replaced.

    ``listen`` is what nginx's directive takes (``127.0.0.1:8080``), ``upstream`` too (``unix:/path`` or ``host:port``;
    a relative path is relative to the folder nginx is started in), ``trusted`` are addresses or networks,
    ``proxies`` too; ``tls`` is (address, certificate, key) and switches the TLS server on. What is None stays as shipped.
    """
    for folder in ("conf.d", "site", "logs", "tmp"):
        (prefix / folder).mkdir(parents=True, exist_ok=True)
    _link(prefix / "nginx.conf", SHIPPED / "nginx.conf")
    _link(prefix / "snippets", SHIPPED / "snippets")
    _link(prefix / "conf.d/http.conf", SHIPPED / "conf.d/http.conf")
    for file in sorted((SHIPPED / "site").glob("*.conf")):
        _link(prefix / "site" / file.name, file)

    if listen is not None:
        _write(prefix / "site/listen.conf", f"listen {listen} default_server;\nserver_name _;\n")
    if upstream is not None:
        _write(prefix / "site/upstream.conf", f"server {upstream};\n")
    if access_log is not None:
        _write(prefix / "site/access-log.conf", f'access_log "{access_log}" json;\n')
    if trusted is not None:
        _write(prefix / "site/trusted.conf", "".join(f"{address} 1;\n" for address in trusted))
    if proxies is not None:
        shipped = (SHIPPED / "site/real-ip.conf").read_text(encoding="utf-8")
        believed = "".join(f"set_real_ip_from {address};\n" for address in proxies)
        _write(prefix / "site/real-ip.conf", shipped + believed)
    (prefix / "conf.d/tls.conf").unlink(missing_ok=True)
    if tls is not None:
        address, certificate, key = tls
        _link(prefix / "conf.d/tls.conf", SHIPPED / "conf.d/templates/tls.conf")
        _write(
            prefix / "site/tls.conf",
            f"listen {address} ssl http2 default_server;\nserver_name _;\n"
            f'ssl_certificate "{certificate}";\nssl_certificate_key "{key}";\n',
        )
    return prefix / "nginx.conf"


def command(prefix: Path) -> list[str]:
    """Return the command that runs nginx in the foreground in a rendered ``prefix``. Raises FileNotFoundError."""
    # A plain user's PATH has no sbin.
    nginx = shutil.which("nginx", path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/usr/local/sbin")
    if nginx is None:
        raise FileNotFoundError("there is no nginx; `make build` installs it")
    directives = "daemon off;"
    if os.geteuid() == 0:
        # nginx's own choice, nobody, may not pass the folders that lead to the socket.
        directives += f" user {pwd.getpwuid(0).pw_name};"
    return [nginx, "-p", str(prefix), "-c", str(prefix / "nginx.conf"), "-e", "stderr", "-g", directives]


def _link(path: Path, target: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def _write(path: Path, text: str) -> None:
    # The link first: writing through it would change the shipped file.
    path.unlink(missing_ok=True)
    path.write_text(text, encoding="utf-8")


def main() -> None:
    """Read the command line and print the path of the nginx.conf to start nginx with."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prefix", type=Path, help="the folder; made if it does not exist")
    parser.add_argument("--listen", metavar="ADDRESS", help="where the HTTP server listens, e.g. 127.0.0.1:8080")
    parser.add_argument("--upstream", metavar="ADDRESS", help="where gunicorn listens: unix:PATH or HOST:PORT")
    parser.add_argument("--access-log", metavar="PATH", help="the access log; relative to the folder")
    parser.add_argument("--trusted", metavar="ADDRESS", action="append", help="may read /metrics, free of limits")
    parser.add_argument("--proxy", metavar="ADDRESS", action="append", help="stands in front and is believed")
    parser.add_argument("--tls", nargs=3, metavar=("ADDRESS", "CERTIFICATE", "KEY"), help="serve TLS as well")
    options = parser.parse_args()
    tls = None
    if options.tls is not None:
        tls = (options.tls[0], Path(options.tls[1]).resolve(), Path(options.tls[2]).resolve())
    print(
        render(
            options.prefix.resolve(),
            listen=options.listen,
            upstream=options.upstream,
            access_log=options.access_log,
            trusted=options.trusted,
            proxies=options.proxy,
            tls=tls,
        )
    )


if __name__ == "__main__":
    main()
