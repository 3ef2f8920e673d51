"""What hubs do while Redis is away, and afterwards."""

from __future__ import annotations

import queue
import threading
from pathlib import Path

import pytest
import redis

from sse_core import BackplaneError, Hub, RedisBackplane
from tests.backplane.redis.hubs import MakeHub, listen
from tests.fanout.harness import eventually
from tests.redisserver import redis_server


class TestAway:
    """Redis is not always there."""

    def test_nothing_works_without_redis_and_everything_after(self, tmp_path: Path) -> None:
        """A hub that starts before Redis answers softly, says that it is not ready, and then works."""
        with redis_server(tmp_path) as server:
            server.stop()
            with Hub(RedisBackplane(server.unix_url, timeout=0.5)) as hub:
                assert not hub.is_ready()
                assert b"".join(hub.subscribe("a")).startswith(b"retry: ")
                with pytest.raises(BackplaneError) as caught:
                    hub.publish("a", "x")
                assert caught.value.retry_after > 0

                server.start()
                eventually(hub.is_ready, "readiness")
                stream = listen(hub)
                assert len(stream.until(hub.publish("a", "x").id)) == 1

    def test_a_redis_that_hangs_holds_one_thread_and_not_all(self, tmp_path: Path) -> None:
        """While a hub's first call waits for a server that does not answer, others are told to come back, softly."""
        with redis_server(tmp_path) as server, Hub(RedisBackplane(server.url, timeout=5.0)) as hub:
            server.pause()
            answers: queue.Queue[str] = queue.Queue()

            def publish() -> None:
                with pytest.raises(BackplaneError) as caught:
                    hub.publish("a", "x")
                answers.put(str(caught.value))

            threads = [threading.Thread(target=publish) for _ in range(2)]
            for thread in threads:
                thread.start()
            assert "is being connected" in answers.get(timeout=10)
            assert b"".join(hub.subscribe("a")).startswith(b"retry: ")
            assert hub.stats()["streams"] == 0
            assert answers.empty(), "the other one waits still"

            for thread in threads:
                thread.join()
            server.resume()
            eventually(hub.is_ready, "readiness")

    def test_an_open_stream_survives_a_restart_of_redis(self, tmp_path: Path) -> None:
        """While Redis is away streams stay open and the log answers; what is published afterwards arrives once, in order."""
        with redis_server(tmp_path, aof=True) as server, Hub(RedisBackplane(server.unix_url, timeout=0.5)) as hub:
            stream = listen(hub)
            ids = [hub.publish("a", str(n)).id for n in range(5)]
            stream.until(ids[-1])
            server.kill()
            eventually(lambda: not hub.is_ready(), "noticing it")
            resumed = listen(hub, "a", ids[1])
            resumed.until(ids[-1])
            assert resumed.ids == ids[2:]
            assert b"".join(hub.subscribe("unheard-of")).startswith(b"retry: ")

            server.start()
            eventually(hub.is_ready, "readiness")
            ids.append(hub.publish("a", "after").id)
            stream.until(ids[-1])
            resumed.until(ids[-1])
            assert stream.ids == ids
            assert (stream.gaps, resumed.gaps) == ([], [])

    def test_who_is_there_is_told_again_as_a_whole(self, tmp_path: Path) -> None:
        """Who came, went and stayed while Redis was away is known soon after, and nobody is left over."""
        with redis_server(tmp_path) as server, Hub(RedisBackplane(server.unix_url, timeout=0.5)) as hub:
            hub.publish("a", "x")
            stays, goes = listen(hub, subject="stays"), listen(hub, subject="goes")
            eventually(lambda: hub.presence("a") == {"stays": 1, "goes": 1}, "the reports")
            server.kill()
            eventually(lambda: not hub.is_ready(), "noticing it")
            goes.socket.close()
            comes = listen(hub, subject="comes")

            # With nothing on disk it has forgotten all.
            server.start()
            eventually(lambda: hub.is_ready() and hub.presence("a") == {"stays": 1, "comes": 1}, "the whole")
            stays.socket.close()
            eventually(lambda: hub.presence("a") == {"comes": 1}, "the next report")
            comes.socket.close()

    def test_who_is_there_is_told_when_redis_has_room_again(self, tmp_path: Path) -> None:
        """A report that a full Redis has refused is made again, although what was told before has not expired."""
        with redis_server(tmp_path) as server, Hub(RedisBackplane(server.unix_url)) as hub:
            client = server.client()
            hub.publish("a", "x")
            stays, goes = listen(hub, subject="stays"), listen(hub, subject="goes")
            eventually(lambda: hub.presence("a") == {"stays": 1, "goes": 1}, "the reports")
            client.config_set("maxmemory", 1_000_000)
            goes.socket.close()
            comes = listen(hub, subject="comes")
            # The changes are refused, and then the whole.
            eventually(lambda: client.info("errorstats").get("errorstat_OOM", {}).get("count", 0) >= 2, "two refusals")
            client.config_set("maxmemory", 0)

            eventually(lambda: hub.presence("a") == {"stays": 1, "comes": 1}, "the whole")
            for stream in (stays, comes):
                stream.socket.close()

    def test_an_emptied_redis_is_told_in_band(self, make: MakeHub, client: redis.Redis) -> None:
        """When Redis has lost everything, open streams get a gap with the reason restart, and then what comes."""
        hub = make()
        stream = listen(hub)
        first = hub.publish("a", "x").id
        stream.until(first)
        client.flushall()
        # Its beat founds the namespace anew.
        eventually(lambda: hub.stats()["backplane_restarts"] == 1, "noticing it")
        last = hub.publish("a", "y").id
        stream.until(last)

        assert [(gap["reason"], gap["asked"]) for gap in stream.gaps] == [("restart", first)]
        assert stream.ids == [first, last]

    def test_a_lost_subscription_loses_nothing(self, make: MakeHub, client: redis.Redis) -> None:
        """A subscriber connection that is killed again and again while events pour in loses none and repeats none."""
        hub, other = make(), make()
        stream = listen(hub)
        ids = []
        for n in range(300):
            ids.append(other.publish("a", str(n)).id)
            if n % 60 == 30:
                client.client_kill_filter(_type="pubsub")
        stream.until(ids[-1])

        assert stream.ids == ids
        assert stream.gaps == []
        assert hub.stats()["backplane_reconnects"] >= 1

    def test_a_publish_whose_connection_breaks_is_one_event(self, make: MakeHub, client: redis.Redis) -> None:
        """Calls are repeated under a key of their own, so that a lost answer does not become a second event."""
        hub = make()
        stream = listen(hub)
        stop = threading.Event()

        def kill() -> None:
            while not stop.wait(0.005):
                client.client_kill_filter(_type="normal", skipme=True)

        thread = threading.Thread(target=kill)
        thread.start()
        receipts = [hub.publish("a", str(n)) for n in range(200)]
        stop.set()
        thread.join()
        stream.until(receipts[-1].id)

        assert [event.data for event in stream.events] == [str(n) for n in range(200)]
        assert not any(receipt.duplicate for receipt in receipts)
