"""Publishes over one kept connection: a POST made of the templates of the options."""

from __future__ import annotations

import ssl
from urllib.parse import urljoin

from loadtest.connection import Address, Connection
from loadtest.options import Options
from loadtest.templates import fill


class PublishError(OSError):
    """The request was not answered with success; the event may have been published or not."""


class Publisher:
    """For one greenlet."""

    def __init__(self, host: str, options: Options, tls: ssl.SSLContext | None = None) -> None:
        """``host`` is the base of a URL that is not whole."""
        self._host = host
        self._options = options
        self._tls = tls
        self._connection: Connection | None = None

    def publish(self, topic: str, data: str, key: str) -> None:
        """Publish one event; ``key`` says which one it is to a server that knows such keys. Raises `PublishError`."""
        values = {"topic": topic, "data": data, "key": key}
        address = Address.of(urljoin(self._host, fill(self._options.publish_url, values)))
        body = fill(self._options.publish_body, values).encode()
        headers = {"Content-Type": self._options.publish_type, **self._options.headers}
        kept = self._connection
        if kept is not None and (not kept.can_go_on or kept.address[:3] != address[:3]):
            self.close()
        try:
            if self._connection is None:
                self._connection = Connection(address, timeout=self._options.timeout, tls=self._tls)
            head = self._connection.request("POST", headers, body, address.target)
            answer = self._connection.read_all()
        except OSError as error:
            self.close()
            raise PublishError(f"{type(error).__name__}: {error}") from error
        if not 200 <= head.status < 300:
            raise PublishError(f"{head.status}: {answer[:200].decode('utf-8', 'replace')}")

    def close(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
