"""Lays out a folder that nginx can run in: the shipped files as they are, and a ``site/`` of its own."""

from __future__ import annotations

from pathlib import Path

from .site import Site, Version, rendered

_PACKAGE = Path(__file__).resolve().parent.parent
#: In an installed package a folder of it, in a checkout the folder beside it; setup.py maps the one to the other.
SHIPPED = next(
    folder for folder in (_PACKAGE / "nginx", _PACKAGE.parent / "nginx") if (folder / "nginx.conf").is_file()
)
#: Servers that are off as shipped.
TEMPLATES = ("tls", "status")


def render(prefix: Path, site: Site, *, version: Version | None = None) -> Path:
    """Lay out ``prefix`` and return the path of its nginx.conf: `nginx -p PREFIX -c PREFIX/nginx.conf`.

    Safe to repeat: what is shipped is replaced, files that are not ours stay. ``version`` is that of the nginx that will
    run it. Copies, not links: an upgrade of this package must not change a running server's next reload. Raises
    `sse_kit.nginxkit.site.SiteError` before anything is written, and `OSError`.
    """
    written = rendered(site, version)
    for folder in ("logs", "tmp"):
        (prefix / folder).mkdir(parents=True, exist_ok=True)
    for source in sorted(SHIPPED.rglob("*.conf")):
        _put(prefix, source.relative_to(SHIPPED), source.read_bytes())
    for name, text in written.items():
        _put(prefix, Path("site", name), text.encode())
    for name, wanted in zip(TEMPLATES, (site.tls, site.status), strict=True):
        place = Path("conf.d", f"{name}.conf")
        if wanted is None:
            (prefix / place).unlink(missing_ok=True)
        else:
            _put(prefix, place, (SHIPPED / "conf.d/templates" / f"{name}.conf").read_bytes())
    return prefix / "nginx.conf"


def _put(prefix: Path, place: Path, content: bytes) -> None:
    # A link is replaced and not written through: what it points to is somebody else's.
    for path in (*reversed((prefix / place).parents), prefix / place):
        if path != prefix and prefix in path.parents and path.is_symlink():
            path.unlink()
    path = prefix / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
