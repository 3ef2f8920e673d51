"""``/demo/``: messages at intervals, a text character by character, and one counter for all who listen."""

from __future__ import annotations

import math
import threading
from urllib.parse import parse_qs

import falcon

from ..auth import check_start
from ..backplane import DEFAULT_NAMESPACE
from ..demo import echo, tick
from ..namespaces import Namespaces
from ..problems import Problem
from ..settings import Settings
from ..topics import COUNTER_TOPIC

DEFAULT_NUMBER = 5
TICKER_INTERVAL = 1.0
ECHO_INTERVAL = 0.2


class TickerResource:
    """``Message 1 of N`` to ``Message N of N``, and ``[DONE]``: a run of this request's own."""

    def __init__(self, namespaces: Namespaces, settings: Settings) -> None:
        self._subscriber = namespaces.find(DEFAULT_NAMESPACE).subscriber
        self._max_number = settings.max_demo_events
        self._max_interval = settings.max_demo_interval

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Stream ``n`` messages, ``interval`` seconds before each."""
        check_start(req, "demo")
        number = _number(req, self._max_number)
        interval = _interval(req, TICKER_INTERVAL, self._max_interval)
        stopped = threading.Event()
        self._subscriber.produce(req, resp, lambda: tick(number, interval, stopped), abort=stopped.set)

    on_head = on_get


class EchoResource:
    """What was sent, character by character: a run of this request's own."""

    def __init__(self, namespaces: Namespaces, settings: Settings) -> None:
        self._subscriber = namespaces.find(DEFAULT_NAMESPACE).subscriber
        self._max_characters = settings.max_demo_characters
        self._max_interval = settings.max_demo_interval

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Stream the characters of ``sent``, ``interval`` seconds apart."""
        check_start(req, "demo")
        text = _text(req, self._max_characters)
        interval = _interval(req, ECHO_INTERVAL, self._max_interval)
        stopped = threading.Event()
        self._subscriber.produce(req, resp, lambda: echo(text, interval, stopped), abort=stopped.set)

    on_head = on_get


class CounterResource:
    """The same stream as ``/events?topic=demo/counter``."""

    def __init__(self, namespaces: Namespaces) -> None:
        self._subscriber = namespaces.find(DEFAULT_NAMESPACE).subscriber

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Stream the numbers from where the counter is now."""
        self._subscriber.subscribe(req, resp, [COUNTER_TOPIC])

    on_head = on_get


def _number(req: falcon.Request, most: int) -> int:
    text = req.get_param("n", default=str(DEFAULT_NUMBER))
    # Digits alone: int() would take "1_0" and " 1" for numbers, too. A long one costs much to convert.
    number = int(text) if text.isascii() and text.isdecimal() and len(text) <= len(str(most)) else 0
    if not 1 <= number <= most:
        raise Problem(
            400,
            "invalid-parameter",
            f"n is a whole number from 1 to {most}.",
            field="n",
            limit="max_demo_events",
            value=most,
        )
    return number


def _interval(req: falcon.Request, default: float, most: int) -> float:
    try:
        interval = float(req.get_param("interval", default=str(default)))
    except ValueError:
        interval = math.nan
    if not 0 <= interval <= most:
        raise Problem(
            400,
            "invalid-parameter",
            f"interval is a number of seconds from 0 to {most}.",
            field="interval",
            limit="max_demo_interval",
            value=most,
        )
    return interval


def _text(req: falcon.Request, most: int) -> str:
    try:
        # Falcon would put U+FFFD where the query is not UTF-8.
        found = parse_qs(req.query_string, keep_blank_values=True, errors="strict").get("sent", [""])
    except UnicodeDecodeError:
        raise Problem(400, "invalid-parameter", "sent is not UTF-8.", field="sent") from None
    if not found[0]:
        raise Problem(400, "invalid-parameter", "Say what to send back: /demo/echo?sent=TEXT", field="sent")
    if len(found[0]) > most:
        detail = f"sent has {len(found[0])} code points; at most {most} are taken."
        raise Problem(413, "too-large", detail, field="sent", limit="max_demo_characters", value=most)
    return found[0]
