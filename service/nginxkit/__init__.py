"""The command ``sse-kit nginx``: the shipped configuration of nginx, laid out for one host.

`site` is what differs from host to host, as values; `files` writes the folder; `program` is the nginx that is to run it.
The configuration itself is in the repository's folder ``nginx/``, which is installed beside this package.
"""
