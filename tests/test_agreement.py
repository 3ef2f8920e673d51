"""Numbers that stand in several places and must agree: the service's, gunicorn's, nginx's and the page's.

They are read from the files that run, not from copies in this one.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement

from sse_core import Hub, parting
from sse_kit.resources.page import CONTENT_SECURITY_POLICY
from sse_kit.server import SPARE_DESCRIPTORS, gunicorn_settings
from sse_kit.settings import Settings

ROOT = Path(__file__).parent.parent
SETTINGS = Settings()
GUNICORN = gunicorn_settings(SETTINGS)

UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20}


def directive(file: str, name: str) -> str:
    """Return the arguments of the one directive ``name`` in a file of nginx/."""
    text = (ROOT / "nginx" / file).read_text("utf-8")
    (found,) = re.findall(rf"^\s*{name}\s+([^;]+);", text, re.MULTILINE)
    return str(found)


def seconds(file: str, name: str) -> int:
    """Return a directive's time in seconds."""
    number, unit = re.fullmatch(r"(\d+)([smhd]?)", directive(file, name)).groups()  # type: ignore[union-attr]
    return int(number) * UNITS[unit]


def size(file: str, name: str) -> int:
    """Return a directive's size in bytes."""
    number, unit = re.fullmatch(r"(\d+)([km]?)", directive(file, name)).groups()  # type: ignore[union-attr]
    return int(number) * SIZES[unit]


STREAM = "site/silence.conf"
BODY = "site/bodies.conf"
UPLOAD = "site/uploads.conf"
UPSTREAM = "snippets/http/upstream.conf"


class TestStreams:
    def test_nginx_outwaits_the_keepalive(self) -> None:
        """A stream that is only quiet is never cut by nginx: it waits for four keepalives."""
        assert seconds(STREAM, "proxy_read_timeout") >= 4 * SETTINGS.keepalive

    def test_both_sides_give_up_a_client_together(self) -> None:
        """A client that reads nothing is given up by nginx after the same time as by the hub."""
        assert seconds("snippets/http/timeouts.conf", "send_timeout") == SETTINGS.send_timeout

    def test_retries_are_of_one_range(self) -> None:
        """nginx sends clients away for as long as the hub and the service do, and the page promises no less."""
        text = (ROOT / "nginx/snippets/http/retry.conf").read_text("utf-8")
        delays = [int(found) for found in re.findall(r"(?:%|\*)\s+(\d+);", text)]
        page = (ROOT / "service/static/connection.js").read_text("utf-8")
        (longest,) = re.findall(r"LONGEST_RETRY_MS = (\d+);", page)

        assert (min(delays), max(delays)) == SETTINGS.drain_retry
        assert int(longest) == max(SETTINGS.retry, SETTINGS.drain_retry[1])

    def test_nginx_has_a_descriptor_for_each_connection(self) -> None:
        """A worker of nginx runs out of connections, which is a soft answer, before it runs out of descriptors."""
        connections = int(directive("site/connections.conf", "worker_connections"))
        descriptors = int(directive("site/descriptors.conf", "worker_rlimit_nofile"))

        # Listeners, logs, the channel to the master, bodies in files.
        assert connections + 500 <= descriptors

    def test_a_storm_fits_into_the_queue(self) -> None:
        """What nginx lets through at once, when clients come back in one instant, gunicorn's queue holds twice."""
        text = (ROOT / "nginx/snippets/location/stream.conf").read_text("utf-8")
        (at_once,) = re.findall(r"limit_req zone=arrivals burst=\d+ delay=(\d+);", text)

        assert 2 * int(at_once) <= GUNICORN["backlog"]

    def test_what_waits_fits_into_a_worker(self) -> None:
        """nginx has a queue for as many streams as one of its workers has room for."""
        text = (ROOT / "nginx/snippets/location/stream.conf").read_text("utf-8")
        (waiting,) = re.findall(r"limit_req zone=arrivals burst=(\d+)", text)

        assert int(waiting) >= int(directive("site/connections.conf", "worker_connections"))


class TestPage:
    def test_nginx_sends_what_the_service_would(self) -> None:
        """The page has the same policy whoever sends it."""
        assert f'"{CONTENT_SECURITY_POLICY}"' in (ROOT / "nginx/snippets/server/page.conf").read_text("utf-8")


class TestRequests:
    def test_nginx_closes_idle_connections_first(self) -> None:
        """gunicorn keeps an idle connection longer than nginx does, with a margin: else a publish meets its close."""
        assert GUNICORN["keepalive"] >= seconds(UPSTREAM, "keepalive_timeout") + 5

    def test_gunicorn_has_room_for_what_nginx_keeps(self) -> None:
        """Idle connections of many nginx workers leave gunicorn room for requests."""
        assert GUNICORN["worker_connections"] >= 16 * int(directive(UPSTREAM, "keepalive"))

    def test_an_address_that_nginx_takes_is_taken(self) -> None:
        """An address, in which a prompt may be, is refused by nginx or by nobody: gunicorn takes the same length."""
        _, buffer = directive("snippets/server/limits.conf", "large_client_header_buffers").split()

        assert buffer == "8k"
        assert GUNICORN["limit_request_line"] + len("\r\n") == 8 << 10

    def test_the_service_explains_its_own_bound(self) -> None:
        """A body that the service refuses reaches it; one that fits an event is never written to a file on its way."""
        assert size(BODY, "client_max_body_size") > SETTINGS.max_body_bytes
        assert size("snippets/location/body.conf", "client_body_buffer_size") >= SETTINGS.max_event_bytes

    def test_the_service_explains_what_a_file_may_have(self) -> None:
        """A file that is too large reaches the service, which says how large one may be and can still discard all of it."""
        assert SETTINGS.max_upload_bytes < size(UPLOAD, "client_max_body_size") <= parting.MAX_BYTES

    def test_one_address_may_upload_what_the_service_takes(self) -> None:
        """nginx lets an address have as many uploads at a time as one worker takes, and so none of them is in vain."""
        zone, files = directive(UPLOAD, "limit_conn").split()

        assert (zone, int(files)) == ("uploads", SETTINGS.max_jobs)


class TestStopping:
    def test_the_drain_ends_before_the_kill(self) -> None:
        """gunicorn gives a worker more time than its streams take to be sent away."""
        assert GUNICORN["graceful_timeout"] > SETTINGS.drain_seconds + 2

    def test_nginx_outlasts_the_drain(self) -> None:
        """An nginx that is told to reload still passes on what a draining service tells its streams."""
        assert seconds("nginx.conf", "worker_shutdown_timeout") > SETTINGS.drain_seconds

    def test_make_run_waits_for_gunicorn(self) -> None:
        """`make run` does not kill a gunicorn that is still within its graceful time."""
        text = (ROOT / "scripts/run.py").read_text("utf-8")
        (stop,) = re.findall(r"^STOP_SECONDS = ([\d.]+)$", text, re.MULTILINE)

        assert float(stop) > GUNICORN["graceful_timeout"]


class TestDeployments:
    """compose.yaml and the units of systemd."""

    COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))["services"]

    @staticmethod
    def unit(file: str, name: str) -> int:
        """The number of an option that a unit has once."""
        text = (ROOT / "deploy" / "systemd" / file).read_text("utf-8")
        (found,) = re.findall(rf"^{name}=(\d+)$", text, re.MULTILINE)
        return int(found)

    def test_the_image_has_what_the_service_needs(self) -> None:
        """Each library of the extra `service` is pinned for the image, in a version that will do: else `make pins`."""
        needed = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
        text = (ROOT / "deploy/image/service.txt").read_text("utf-8")
        pinned = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.MULTILINE))

        for requirement in map(Requirement, needed["service"]):
            assert requirement.name.lower() in pinned, requirement
            assert requirement.specifier.contains(pinned[requirement.name.lower()]), requirement

    def test_the_service_is_not_killed_while_it_stops(self) -> None:
        """compose and systemd wait longer for the service than gunicorn takes at most."""
        grace = int(self.COMPOSE["service"]["stop_grace_period"].removesuffix("s"))

        assert min(grace, self.unit("sse-kit.service", "TimeoutStopSec")) >= GUNICORN["graceful_timeout"] + 5

    def test_nginx_is_not_killed_while_it_stops(self) -> None:
        """compose and systemd tell nginx to let requests end, and wait longer than its old workers may take."""
        compose = self.COMPOSE["nginx"]
        drop_in = (ROOT / "deploy/systemd/nginx.conf").read_text("utf-8")
        grace = min(int(compose["stop_grace_period"].removesuffix("s")), self.unit("nginx.conf", "TimeoutStopSec"))

        assert grace >= seconds("nginx.conf", "worker_shutdown_timeout") + 5
        assert compose["stop_signal"] == "SIGQUIT"
        assert "\nKillSignal=SIGQUIT\n" in drop_in

    def test_nginx_ends_after_the_service(self) -> None:
        """Whoever is waited for at the start is stopped last: nginx passes on what the service says to its streams."""
        drop_in = (ROOT / "deploy/systemd/nginx.conf").read_text("utf-8")

        assert set(self.COMPOSE["service"]["depends_on"]) == {"nginx", "redis"}
        assert "\nBefore=sse-kit.service\n" in drop_in

    def test_there_is_a_descriptor_for_each_stream(self) -> None:
        """The service reaches its bound on streams before it has no descriptor left, and nginx may have what it asks for."""
        needed = 2 * GUNICORN["worker_connections"] + SPARE_DESCRIPTORS
        bound = int(self.COMPOSE["service"]["environment"]["SSE_KIT_MAX_STREAMS"])
        asked = int(directive("site/descriptors.conf", "worker_rlimit_nofile"))

        assert self.COMPOSE["service"]["ulimits"]["nofile"] >= bound + needed
        assert self.unit("sse-kit.service", "LimitNOFILE") >= SETTINGS.max_streams + needed
        assert min(self.COMPOSE["nginx"]["ulimits"]["nofile"], self.unit("nginx.conf", "LimitNOFILE")) >= asked

    def test_there_is_room_for_uploads(self) -> None:
        """What is worked on at a time fits where compose keeps it."""
        (mount,) = self.COMPOSE["service"]["tmpfs"]
        (gigabytes,) = re.findall(r"size=(\d+)g", mount)

        assert int(gigabytes) << 30 >= SETTINGS.max_jobs * SETTINGS.max_upload_bytes + SETTINGS.min_free_bytes


def test_the_hubs_own_defaults() -> None:
    """Whoever embeds the core behind this nginx configuration gets numbers that agree with it as well."""
    defaults = Hub.__init__.__kwdefaults__
    assert defaults is not None

    shared = ["keepalive", "retry", "send_timeout", "gap_event", "max_event_bytes", "drain_seconds", "drain_retry"]
    assert {name: defaults[name] for name in shared} == {name: getattr(SETTINGS, name) for name in shared}
