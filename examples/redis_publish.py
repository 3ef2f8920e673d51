"""Publish without HTTP, as a cron job or a task queue's worker does.

`python -m examples.redis_publish redis://127.0.0.1:6379/0 news "It works"`, where the service or an application of
yours has the same Redis as its backplane.
"""

import sys

import redis

from sse_core import publish


def main() -> None:
    url, topic, text = sys.argv[1:]
    with redis.Redis.from_url(url) as client:
        # With an `id` of your own the job may be repeated: what was published already is not published again.
        print(publish(client, topic, text).id)


if __name__ == "__main__":
    main()
