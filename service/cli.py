"""The command ``sse-kit``: serve, publish, listen, health, doctor; `nginxkit` has the command for nginx.

Exit codes: 0 done; 1 refused by the server, or not well; 2 wrong usage; 3 server not available; 130 interrupted by Ctrl-C.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from sse_core import ParseError

from .client import AddressError, Listener, Publisher, RefusedError, Server, UnavailableError
from .feed import CONTENT_TYPE, InputError, batches, json_lines, one_event, text_lines
from .minting import token as token_commands
from .nginxkit.cli import nginx
from .output import as_json, as_receipt, as_text
from .probe import UnhealthyError, check, reachable
from .sessions import TOKEN

EXIT_REFUSED = 1
EXIT_USAGE = 2
EXIT_UNAVAILABLE = 3
EXIT_INTERRUPTED = 130

DEFAULT_ADDRESS = "http://127.0.0.1:8000"


class Commands(click.Group):
    """The group of commands, with one place that turns what ended a command into an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(EXIT_INTERRUPTED)
        except BrokenPipeError:
            # The reader of our output has left, as in `sse-kit listen ... | head`. That is its right.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)
        except UnicodeEncodeError:
            # Bytes of the command line that are no text in its encoding arrive as lone surrogates.
            click.echo("sse-kit: an argument is not valid text", err=True)
            ctx.exit(EXIT_USAGE)
        except (RefusedError, UnhealthyError, InputError, ParseError) as error:
            click.echo(f"sse-kit: {error}", err=True)
            ctx.exit(EXIT_REFUSED)
        except UnavailableError as error:
            click.echo(f"sse-kit: {error}", err=True)
            ctx.exit(EXIT_UNAVAILABLE)


class Address(click.ParamType[Server]):
    """An option that names a server."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Server:
        """Return the `Server`, or end with the reason."""
        if isinstance(value, Server):
            return value
        try:
            return Server(value)
        except AddressError as error:
            self.fail(str(error), param, ctx)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="sse-kit")
def main() -> None:
    """Server-Sent Events: serve streams, publish events, listen to topics, configure nginx."""


main.add_command(nginx)


def _server_options(command: Callable[..., None]) -> Callable[..., None]:
    address = click.option(
        "--url",
        "server",
        type=Address(),
        default=DEFAULT_ADDRESS,
        show_default=True,
        help="http://HOST:PORT or unix:PATH",
    )
    namespace = click.option("--namespace", metavar="NAME", help="A feed of its own, of those that the server has.")
    token = click.option(
        "--token",
        metavar="TOKEN",
        envvar="SSE_KIT_TOKEN",
        show_envvar=True,
        callback=_token,
        help="Who you are, where the server wants to know. Everybody on the machine can read a command line, so better "
        "set the variable.",
    )
    return address(namespace(token(command)))


def _token(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    # An empty variable is as good as none. The value is not repeated: where this is printed others may read it.
    if value and not TOKEN.fullmatch(value):
        raise click.BadParameter("a token has letters, digits and - . _ ~ + / only, and = only at its end", ctx, param)
    return value or None


@main.command()
@click.option("--bind", metavar="HOST:PORT|unix:PATH", help="Where to listen.  [default: 127.0.0.1:8000]")
@click.option(
    "--backplane", metavar="URL", help="What joins workers: redis://HOST:PORT/DB, or memory.  [default: memory]"
)
@click.option("--workers", type=int, help="Worker processes; only 1 with the backplane in memory.  [default: 1]")
@click.option("--threads", type=int, help="Threads that answer requests; open streams need none.  [default: 8]")
@click.option("--namespace", "namespaces", multiple=True, metavar="NAME", help="A feed under /n/NAME/; repeatable.")
@click.option("--log", "logs", multiple=True, metavar="NAME=PATH", help="A log to show as /logs/NAME; repeatable.")
@click.option("--cors-origin", "cors_origins", multiple=True, metavar="ORIGIN", help="May call us; repeatable.")
def serve(logs: tuple[str, ...], **options: Any) -> None:
    """Serve the application under gunicorn, in the foreground, until TERM or Ctrl-C.

    Every other option is an environment variable with the prefix SSE_KIT_; an option here wins over it. A backplane's
    password belongs into SSE_KIT_BACKPLANE: a command line can be read by everybody on the machine.
    """
    # Heavy, and of no use to the other commands.
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from sse_core import ConfigurationError

    from .identities import AnonymousError
    from .server import Server as Gunicorn
    from .server import TooManyWorkersError
    from .settings import Settings

    given = {name: value for name, value in options.items() if value not in (None, ())}
    if logs:
        given["logs"] = dict(_named_path(log) for log in logs)
    try:
        gunicorn = Gunicorn(Settings(**given))
    except (TooManyWorkersError, AnonymousError, ConfigurationError) as error:
        raise click.UsageError(str(error)) from None
    except SettingsError as error:
        # Names the field and not its value, which may be a secret.
        raise click.UsageError(f"{error}: in the environment mappings and lists are JSON") from None
    except ValidationError as error:
        reasons = [f"{'.'.join(map(str, each['loc'])) or 'settings'}: {each['msg']}" for each in error.errors()]
        raise click.UsageError("\n".join(reasons)) from None
    gunicorn.run()


def _named_path(log: str) -> tuple[str, Path]:
    name, equals, path = log.partition("=")
    if not equals or not path:
        raise click.BadParameter(f"{log!r} is not NAME=PATH", param_hint="--log")
    return name, Path(path).absolute()


@main.command()
@click.option(
    "--bind",
    metavar="HOST:PORT|unix:PATH",
    envvar="SSE_KIT_BIND",
    show_envvar=True,
    default="127.0.0.1:8000",
    show_default=True,
    help="Where it listens, as `serve --bind`.",
)
@click.option("--ready", is_flag=True, help="Whether it takes new streams, and not whether it is worth keeping.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    help="Seconds of silence that mean no.",
)
def health(bind: str, ready: bool, timeout: float) -> None:
    """Ask the service on this machine whether it is well; exit with 0 or, telling why, with 1.

    The health check of the container image: it needs no shell and no curl.
    """
    try:
        server = reachable(bind)
    except AddressError as error:
        raise click.UsageError(f"--bind: {error}") from None
    check(server, ready=ready, timeout=timeout)


@main.command()
@click.argument("addresses", nargs=-1, required=True, metavar="URL [INNER_URL...]", type=Address())
@click.option("--json", "is_json", is_flag=True, help="Print one JSON document.")
@click.option(
    "--patience",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="Seconds after which what has not come is taken to be held back.",
)
@click.option("--idle/--no-idle", default=True, help="Whether to wait for a keepalive, some 15 s.  [default: idle]")
@click.option("--namespace", metavar="NAME", help="Whose streams are asked for.")
@click.option(
    "--token", metavar="TOKEN", envvar="SSE_KIT_TOKEN", show_envvar=True, callback=_token, help="Who you are."
)
def doctor(
    addresses: tuple[Server, ...],
    is_json: bool,
    patience: float,
    idle: bool,
    namespace: str | None,
    token: str | None,
) -> None:
    """Say what stands between here and the service at URL, and does harm to streams; and what to do about it.

    INNER_URLs are further in on the same way, such as nginx behind a CDN and then the service's own address: with them the hop
    is known for certain. Exits with 0 if streams arrive as they were sent, else with 1; with 3 if that cannot be told.
    """
    from .doctor.checks import Examiner
    from .doctor.report import as_document, as_lines

    found = [
        Examiner(server, namespace=namespace, token=token, patience=patience, idle=idle).examine()
        for server in addresses
    ]
    if is_json:
        click.echo(json.dumps(as_document(found), indent=2))
    else:
        for line in as_lines(found):
            click.echo(line)
    if any(each.evidence for each in found):
        raise SystemExit(EXIT_REFUSED)


@main.command()
@click.argument("topic", required=False)
@click.argument("data", required=False)
@click.option("--event", help="The event's name, for addEventListener.")
@click.option("--id", "key", help="Idempotency key: the same key again publishes nothing.")
@click.option("--retry", type=click.IntRange(min=0), help="Reconnect delay told to clients, in milliseconds.")
@click.option(
    "--json", "is_json", is_flag=True, help="Lines on standard input are whole events; TOPIC is their default."
)
@click.option("--quiet", "-q", is_flag=True, help="Do not print the ids.")
@click.option("--patience", type=float, default=60.0, show_default=True, help="Seconds to go on trying.")
@_server_options
def publish(
    topic: str | None,
    data: str | None,
    is_json: bool,
    quiet: bool,
    patience: float,
    server: Server,
    namespace: str | None,
    token: str | None,
    **fields: Any,
) -> None:
    """Publish DATA on TOPIC, or each line of standard input as an event of its own.

    Prints the id of each event. What fails is repeated with the same key, so nothing is published twice.
    """
    extra = {
        name: value for name, value in (("event", fields["event"]), ("retry", fields["retry"])) if value is not None
    }
    if is_json and (data is not None or extra or fields["key"] is not None):
        raise click.UsageError("with --json everything about an event is in its line")
    if not is_json and topic is None:
        raise click.UsageError("TOPIC is missing")
    if data is None and fields["key"] is not None:
        raise click.UsageError("--id is the key of one event; give its DATA as an argument")

    if is_json:
        feed = batches(sys.stdin.buffer, json_lines(topic))
    elif data is None:
        feed = batches(sys.stdin.buffer, text_lines({"topic": topic, **extra}))
    else:
        feed = iter([one_event({"topic": topic, "data": data, **extra}, fields["key"])])
    publisher = Publisher(server, namespace=namespace, token=token, patience=patience)
    try:
        for batch in feed:
            try:
                receipts = publisher.post(batch.body, CONTENT_TYPE)
            except RefusedError as error:
                raise batch.located(error) from None
            for receipt in () if quiet else receipts.splitlines():
                click.echo(as_receipt(receipt))
    finally:
        publisher.close()


@main.command()
@click.option("--jti", help="The id of the token: it alone ends.")
@click.option("--subject", help="Whoever this is: all of their tokens and sessions end.")
@click.option("--topic", metavar="PATTERN", help="The topics that match: nobody listens to them.")
@click.option("--seconds", type=click.IntRange(min=1), default=86_400, show_default=True, help="How long it lasts.")
@click.option("--patience", type=float, default=60.0, show_default=True, help="Seconds to go on trying.")
@_server_options
def revoke(
    jti: str | None,
    subject: str | None,
    topic: str | None,
    seconds: int,
    patience: float,
    server: Server,
    namespace: str | None,
    token: str | None,
) -> None:
    """Shut out a token, a subject or the listeners of topics, in all processes, for some time. Needs the grant admin."""
    named = {name: value for name, value in (("jti", jti), ("subject", subject), ("topic", topic)) if value is not None}
    if len(named) != 1:
        raise click.UsageError("say exactly one of --jti, --subject and --topic")
    if namespace is not None:
        raise click.UsageError("--namespace: it is about all of them")
    publisher = Publisher(server, route="revocations", token=token, patience=patience)
    try:
        answer = publisher.post(json.dumps({**named, "seconds": seconds}).encode(), "application/json")
    finally:
        publisher.close()
    click.echo(answer.decode())


main.add_command(token_commands)


@main.command()
@click.argument("topics", nargs=-1, required=True, metavar="TOPIC...")
@click.option("--json", "is_json", is_flag=True, help="Print each event as a line of JSON: id, event, data.")
@click.option("--last-event-id", default="", help="Resume after this id; 0-0 asks for all that is left.")
@click.option("--max", "most", type=click.IntRange(min=1), help="End after this many events.")
@click.option("--quiet", "-q", is_flag=True, help="Do not tell of reconnects on standard error.")
@_server_options
def listen(
    topics: tuple[str, ...],
    is_json: bool,
    last_event_id: str,
    most: int | None,
    quiet: bool,
    server: Server,
    namespace: str | None,
    token: str | None,
) -> None:
    """Print the events of TOPICs as they come; reconnect and resume as a browser does.

    Ends when the server says that there is no more (204) or refuses for good.
    """

    def tell(reason: str, seconds: float) -> None:
        if not quiet:
            click.echo(f"sse-kit: {reason}; again in {seconds:g} s", err=True)

    if not last_event_id.isprintable() or not last_event_id.isascii():
        raise click.UsageError("--last-event-id: an id has digits and a dash")
    terminal = sys.stdout.isatty()
    listener = Listener(server, topics, namespace=namespace, token=token, last_event_id=last_event_id, on_retry=tell)
    for event in itertools.islice(listener.events(), most):
        # echo flushes: whoever reads our output through a pipe waits for each event. With color it takes nothing out.
        click.echo(as_json(event) if is_json else as_text(event, terminal=terminal), color=True)
