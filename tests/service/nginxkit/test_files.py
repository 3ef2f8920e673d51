"""The folder that nginx runs in."""

from __future__ import annotations

from pathlib import Path

from sse_kit.nginxkit.files import SHIPPED, render
from sse_kit.nginxkit.site import TLS, Site


def files(folder: Path) -> dict[str, bytes]:
    """The configuration in a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.conf")}


def test_what_is_shipped_is_what_runs(tmp_path: Path) -> None:
    """But for the files of site/ that were asked for, each file is the shipped one, byte for byte."""
    render(tmp_path, Site(listen=["127.0.0.1:1"], upstream=["unix:/s"]))
    shipped, written = files(SHIPPED), files(tmp_path)

    assert {name for name in written if written[name] != shipped.get(name)} == {
        "site/listen.conf",
        "site/upstream.conf",
    }
    assert shipped.keys() == written.keys()


def test_it_may_be_repeated(tmp_path: Path) -> None:
    """Another rendering replaces what the first one wrote, switches off what it switched on, and leaves other files alone."""
    own = tmp_path / "conf.d" / "own.conf"
    tls = TLS(certificate=Path("/c"), key=Path("/k"))
    render(tmp_path, Site(tls=tls, status="127.0.0.1:1", streams=5))
    assert {"conf.d/tls.conf", "conf.d/status.conf"} < files(tmp_path).keys()
    own.write_text("# mine\n")
    render(tmp_path, Site())

    assert files(tmp_path) == files(SHIPPED) | {"conf.d/own.conf": b"# mine\n"}


def test_a_link_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    """Where a file or folder of the configuration is a link, what it points to stays as it is."""
    elsewhere, prefix = tmp_path / "elsewhere", tmp_path / "kit"
    (elsewhere / "site").mkdir(parents=True)
    (elsewhere / "site/listen.conf").write_text("theirs")
    (elsewhere / "nginx.conf").write_text("theirs")
    prefix.mkdir()
    (prefix / "site").symlink_to(elsewhere / "site")
    (prefix / "nginx.conf").symlink_to(elsewhere / "nginx.conf")
    render(prefix, Site())

    assert {path.read_text() for path in elsewhere.rglob("*.conf")} == {"theirs"}
    assert files(prefix) == files(SHIPPED)
