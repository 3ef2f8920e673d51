"""Load tests of servers of event streams, on locust: who gets what, how late, and what never came.

Importing anything of it imports locust, whose gevent changes the standard library's sockets: for a process of its own.
"""
