#!/usr/bin/env python3
"""Make the Secrets that the manifests of k8s/ name, with random values: none is in the repository.

`scripts/kubernetes_secrets.py | kubectl apply -n sse-kit -f -` for a cluster; with ``--podman`` they are made in podman, for
the overlay `local`. Made twice they are new ones: Redis and the service have to be restarted then.
"""

from __future__ import annotations

import argparse
import base64
import json
import secrets
import subprocess
import sys

#: Bytes of chance in a password and a token; both are written in hexadecimal, so a URL needs no escapes.
RANDOM_BYTES = 32


def make_secrets(redis: str, user: str, *, cluster: bool = False) -> dict[str, dict[str, str]]:
    """Return the data of each Secret by its name: the service's and Redis'.

    ``redis`` is HOST:PORT, of any node with ``cluster``; ``user`` gets a token.
    """
    password = secrets.token_hex(RANDOM_BYTES)
    return {
        "redis": {"password": password},
        "sse-kit": {
            "SSE_KIT_BACKPLANE": f"redis+cluster://:{password}@{redis}"
            if cluster
            else f"redis://:{password}@{redis}/0",
            "SSE_KIT_TOKENS": json.dumps({user: secrets.token_hex(RANDOM_BYTES)}),
        },
    }


def as_manifests(made: dict[str, dict[str, str]]) -> str:
    """Return Kubernetes objects, as one list; JSON, which is YAML too."""
    items = [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": "Opaque", "data": encoded(data)}
        for name, data in made.items()
    ]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=2) + "\n"


def encoded(data: dict[str, str]) -> dict[str, str]:
    """Return the values in base64, as Secrets have them and as podman wants a whole Secret to be."""
    return {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}


def make_in_podman(made: dict[str, dict[str, str]]) -> None:
    """Make them in podman. Raises CalledProcessError, and podman says why: most likely they are there already."""
    for name, data in made.items():
        subprocess.run(
            ["podman", "secret", "create", name, "-"], input=json.dumps(encoded(data)), text=True, check=True
        )


def main() -> None:
    """Read the command line; print the Secrets, or make them in podman."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--redis", metavar="HOST:PORT", help="where the service finds it (default: as the manifests say)"
    )
    parser.add_argument("--cluster", action="store_true", help="that is a node of a Cluster")
    parser.add_argument("--user", default="admin", help="whose token it is (default: %(default)s)")
    parser.add_argument("--podman", action="store_true", help="make them in podman instead of printing them")
    options = parser.parse_args()
    redis = options.redis or ("127.0.0.1:6380" if options.podman else "redis:6379")
    made = make_secrets(redis, options.user, cluster=options.cluster)
    if not options.podman:
        sys.stdout.write(as_manifests(made))
        return
    try:
        make_in_podman(made)
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)


if __name__ == "__main__":
    main()
