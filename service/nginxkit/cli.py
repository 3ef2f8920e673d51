"""``sse-kit nginx PREFIX``: its options, in the order in which a person thinks of them."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import click

from .files import render
from .program import Program, ProgramError, check, find, parse_version
from .site import TLS, Site, SiteError, Version

#: The folder of the page that this package has.
STATIC = Path(__file__).resolve().parent.parent / "static"
NUMBER = click.IntRange(min=1)


@click.command(name="nginx", short_help="Lay out nginx's configuration for this host.")
@click.argument("prefix", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--listen", multiple=True, metavar="ADDRESS", help="Of plain HTTP: PORT or ADDRESS:PORT.  [default: 8080]"
)
@click.option("--name", "names", multiple=True, metavar="NAME", help="A server name; repeatable.  [default: any]")
@click.option(
    "--upstream",
    multiple=True,
    metavar="ADDRESS",
    help="Where gunicorn listens, unix:PATH or HOST:PORT; repeatable.  [default: unix:/run/sse-kit/gunicorn.sock]",
)
@click.option("--certificate", type=click.Path(path_type=Path), help="PEM with its chain; switches TLS and HTTP/2 on.")
@click.option("--key", type=click.Path(path_type=Path), help="The certificate's key, PEM.")
@click.option("--tls-listen", multiple=True, metavar="ADDRESS", help="Of TLS.  [default: 8443]")
@click.option("--http3", is_flag=True, help="HTTP/3 (QUIC, UDP) at the same addresses.")
@click.option("--hsts", type=NUMBER, metavar="SECONDS", help="Browsers shall come by https only, for so long.")
@click.option("--ocsp", metavar="RESOLVER", help="Staple the certificate's OCSP answer; the DNS server to find it by.")
@click.option("--proxy", "proxies", multiple=True, metavar="NETWORK", help="A proxy in front, whose word is believed.")
@click.option(
    "--trusted", multiple=True, metavar="NETWORK", help="May read /metrics, free of limits.  [default: loopback]"
)
@click.option("--streams", type=NUMBER, help="Streams of one worker of nginx; there is one a core.  [default: 9112]")
@click.option("--streams-per-client", type=NUMBER, help="Streams of one address at a time.  [default: 200]")
@click.option("--connect-rate", type=NUMBER, help="New streams of one address a second.  [default: 50]")
@click.option("--arrival-rate", type=NUMBER, help="New streams of all together a second; more wait.  [default: 2000]")
@click.option("--publish-rate", type=NUMBER, help="Publishes of one address a second.  [default: 100]")
@click.option("--uploads-per-client", type=NUMBER, help="Uploads of one address at a time; as max_jobs.  [default: 4]")
@click.option("--keepalive", type=click.FloatRange(min=0.05), help="As the service's setting, seconds.  [default: 15]")
@click.option("--max-body-bytes", type=NUMBER, help="As the service's setting.  [default: 1048576]")
@click.option("--max-upload-bytes", type=NUMBER, help="As the service's setting.  [default: 67108864]")
@click.option("--access-log", metavar="PATH|off", help="Relative to PREFIX.  [default: logs/access.log]")
@click.option("--status", metavar="ADDRESS", help="nginx's own counters at /status, for an exporter; loopback.")
@click.option(
    "--page",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    is_flag=False,
    flag_value=str(STATIC),
    help="nginx sends the page itself, from this folder or, without one, from this package's.",
)
@click.option(
    "--workers", type=NUMBER, help="Processes of nginx, e.g. in a container with fewer cores.  [default: one a core]"
)
@click.option("--user", metavar="NAME", help="Whom nginx's workers run as, if root starts it.")
@click.option("--nginx", "path", metavar="PATH", help="The program.  [default: that of this machine]")
@click.option("--nginx-version", metavar="VERSION", help="Of the nginx that will run it, if that is not here.")
@click.option("--check/--no-check", "checked", default=True, help="Let nginx check what was written.  [default: check]")
def nginx(prefix: Path, path: str | None, nginx_version: str | None, checked: bool, **options: Any) -> None:
    """Lay out PREFIX as a folder that nginx can run in, and print the path of its nginx.conf.

    The files are the shipped ones, unchanged; only those of site/ differ. Repeat it after an upgrade or with other
    options: what is there of ours is replaced. nginx then reloads by `nginx -p PREFIX -c PREFIX/nginx.conf -s reload`.
    """
    prefix = prefix.resolve()
    try:
        program = find(path)
        version = parse_version(nginx_version) if nginx_version else program.version if program else None
        if program is not None and program.version != version:
            # Another machine's: what this one would say of it means nothing.
            program = None
        site = _site(options)
        _possible(site, program, version)
        config = render(prefix, site, version=version)
        if checked and program is not None:
            check(prefix, program)
    except (SiteError, ValueError) as error:
        raise click.UsageError(str(error)) from None
    except (ProgramError, OSError) as error:
        raise click.ClickException(str(error)) from None
    _tell(site, program if checked else None, version)
    click.echo(config)


def _site(options: dict[str, Any]) -> Site:
    certificate, key = options.pop("certificate"), options.pop("key")
    of_tls = {name: options.pop(name) for name in ("tls_listen", "http3", "hsts", "ocsp")}
    if (certificate is None) != (key is None):
        raise SiteError("--certificate and --key belong together")
    if certificate is None and any(of_tls.values()):
        raise SiteError(
            "--tls-listen, --http3, --hsts and --ocsp are of the TLS server: --certificate and --key are missing"
        )
    tls = None
    if certificate is not None:
        tls = TLS(
            # Absolute: nginx would look for a relative one below PREFIX.
            certificate=certificate.absolute(),
            key=key.absolute(),
            listen=of_tls["tls_listen"] or TLS.listen,
            http3=of_tls["http3"],
            hsts=of_tls["hsts"] or 0,
            ocsp_resolver=of_tls["ocsp"],
        )
    page = options.pop("page")
    trusted = options.pop("trusted")
    return Site(**options, tls=tls, trusted=trusted or None, page=None if page is None else Path(page).absolute())


def _possible(site: Site, program: Program | None, version: Version | None) -> None:
    """Refuse what this nginx was not built for. Raises `SiteError`."""
    wanted = {"http_v3_module": site.tls is not None and site.tls.http3, "http_stub_status_module": site.status}
    if wanted["http_v3_module"] and version is not None and version < (1, 25, 0):
        raise SiteError("--http3 needs nginx 1.25 or later, built with http_v3_module")
    if program is None:
        return
    for module, option in (("http_v3_module", "--http3"), ("http_stub_status_module", "--status")):
        if wanted[module] and module not in program.modules:
            raise SiteError(f"{option}: {program.path} was built without {module}")


def _tell(site: Site, program: Program | None, version: Version | None) -> None:
    """Say on standard error what was checked, and what the numbers mean here."""
    known = "any version" if version is None else "nginx " + ".".join(map(str, version))
    told = f"checked by {program.path}" if program is not None else "not checked by an nginx"
    click.echo(f"sse-kit: written for {known}, {told}", err=True)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if site.descriptors is not None and hard != resource.RLIM_INFINITY and hard < site.descriptors:
        click.echo(
            f"sse-kit: {site.streams} streams a worker take {site.descriptors} descriptors, and the hard limit of open files "
            f"is {hard} here: raise it for nginx (LimitNOFILE= in systemd, ulimit -Hn in a shell)",
            err=True,
        )
