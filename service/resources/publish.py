"""``POST /publish``: one event as JSON, or many as ndjson, all or none.

This is the hot path: a request costs its HTTP parsing, one decode, one `Hub.publish` and one small answer. So nothing is
logged for a request that succeeds.
"""

from __future__ import annotations

import falcon

from sse_core import BackplaneError, EventError, Hub

from ..auth import check_publish
from ..backplane import DEFAULT_NAMESPACE
from ..bodies import read_body
from ..names import TopicNames
from ..namespaces import Namespaces
from ..problems import backplane_problem, event_problem
from ..publications import decode, decode_lines, largest

JSON = "application/json"
NDJSON = "application/x-ndjson"


class PublishResource:
    """Publishes and answers with receipts: the id on the wire, and whether the key had been published before."""

    def __init__(
        self, namespaces: Namespaces, *, max_body_bytes: int, max_batch_events: int, names: TopicNames | None = None
    ) -> None:
        self._namespaces = namespaces
        self._clients = namespaces.clients
        self._names = None if names is None or names.all else names
        self._max_body_bytes = max_body_bytes
        self._max_batch_events = max_batch_events

    def on_post(self, req: falcon.Request, resp: falcon.Response, namespace: str = DEFAULT_NAMESPACE) -> None:
        """Publish the body. One receipt for JSON; one a line, in the order of the request, for ndjson."""
        hub = self._namespaces.find(namespace).hub
        try:
            self._publish(namespace, hub, req, resp)
        except BackplaneError as error:
            consequence = "Whether anything was published is unknown: repeat the request with the same id."
            raise backplane_problem(error, consequence) from None

    def _publish(self, namespace: str, hub: Hub, req: falcon.Request, resp: falcon.Response) -> None:
        media_type = req.content_type or ""
        if ";" in media_type or media_type not in (JSON, NDJSON):
            media_type = media_type.partition(";")[0].strip().lower()
        if media_type == JSON:
            topic, event = decode(read_body(req, self._max_body_bytes), names=self._names)
            check_publish(req, namespace, topic)
            self._clients.count_events(req, 1)
            receipt = hub.publish(topic, event)
            resp.data = _receipt(*receipt)
            resp.content_type = JSON
        elif media_type == NDJSON:
            body = read_body(req, self._max_body_bytes)
            items = decode_lines(
                body,
                max_events=self._max_batch_events,
                names=self._names,
                check=lambda topic, line: check_publish(req, namespace, topic, line=line),
            )
            self._clients.count_events(req, len(items))
            try:
                receipts = hub.publish_many(items)
            except EventError as error:
                # The lines are good in themselves; the hub found one too large once it was framed.
                raise event_problem(error, line=largest(body)) from None
            resp.data = b"".join([_receipt(*receipt) + b"\n" for receipt in receipts])
            resp.content_type = NDJSON
        else:
            # Also what keeps a foreign page from publishing by a plain form: those types need no preflight.
            raise falcon.HTTPUnsupportedMediaType(description=f"Send {JSON} or {NDJSON}.")


def _receipt(id: str, duplicate: bool) -> bytes:
    # An id is digits and a dash: nothing in it needs an escape.
    return b'{"id":"%s","duplicate":%s}' % (id.encode(), b"true" if duplicate else b"false")
