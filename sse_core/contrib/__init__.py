"""The core under interfaces that people know already. Each module needs the package that it is named after, and no other.

* `sse_core.contrib.flask`: the interface of flask-sse; extra ``flask``.
* `sse_core.contrib.tqdm`: a progress bar of tqdm that is also a stream; extra ``tqdm``.
"""
