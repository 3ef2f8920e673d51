"""What stands between a client and the service, and what it does to streams: ``sse-kit doctor``.

`connection` is a client of one stream, `checks` find what is wrong with it, `hops` recognize who is on the way, `remedies`
know what to do about it, and `report` tells it.
"""
