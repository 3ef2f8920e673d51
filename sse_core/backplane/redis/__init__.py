"""Redis (or Valkey) joins processes and pods: `sse_core.RedisBackplane`, and `sse_core.publish` for other programs.

* publish.lua gives ids and keeps history; scripts.py and commands.py are the way to it.
* reader.py has the connection that listens; feed.py makes one order of what it hears and what it fetches.
* heart.py keeps the namespace's clock going and tells who listens here; audience.py is who listens anywhere.
* topology.py knows which server is the primary, subscriber.py how to listen to it.
"""
