"""``POST /jobs?name=FILENAME``: a file to count the lines and to make the checksum of."""

from __future__ import annotations

import unicodedata

import falcon

from sse_core import BackplaneError

from ..auth import check_start
from ..jobs import Jobs
from ..limits import Clients
from ..problems import Problem, backplane_problem
from ..runs import accept_run, check_accept
from ..subscriber import Subscriber
from ..uploads import Uploads

MEDIA_TYPE = "application/octet-stream"
# As long as a file's name can be on most file systems.
MAX_NAME_BYTES = 255

# What could change how the lines around a name look: controls, separators of lines and paragraphs, halves of characters.
_NOT_IN_NAMES = ("Cc", "Zl", "Zp", "Cs")


class JobsResource:
    """Receives a file, starts its job, and answers with the run, as all that starts one does."""

    def __init__(self, jobs: Jobs, uploads: Uploads, subscriber: Subscriber, clients: Clients) -> None:
        self._jobs = jobs
        self._uploads = uploads
        self._subscriber = subscriber
        self._clients = clients

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Start a job on the body. What can be refused is refused before the body is read."""
        check_start(req, "jobs")
        check_accept(req)
        media_type = (req.content_type or "").partition(";")[0].strip().lower()
        if media_type != MEDIA_TYPE:
            # Also what keeps a foreign page from uploading by a plain form: its types need no preflight.
            raise falcon.HTTPUnsupportedMediaType(description=f"Send the file itself, as {MEDIA_TYPE}.")
        name = _name(req)
        place = self._clients.enter_run(req)
        try:
            job = self._jobs.start(self._uploads.receive(req), name, place)
        except BackplaneError as error:
            place.leave()
            raise backplane_problem(error, "Nothing was started: send the file again.") from None
        except BaseException:
            place.leave()
            raise
        accept_run(req, resp, job, self._subscriber)


def _name(req: falcon.Request) -> str:
    """Return what the file is called. To be shown, and nothing else: it is no path anywhere."""
    names = req.get_param_as_list("name") or []
    if len(names) != 1 or not names[0]:
        raise Problem(400, "invalid-name", "Say once what the file is called: /jobs?name=FILENAME", field="name")
    name = names[0]
    # What is not UTF-8 has become U+FFFD on its way here.
    if "\N{REPLACEMENT CHARACTER}" in name or any(unicodedata.category(char) in _NOT_IN_NAMES for char in name):
        raise Problem(400, "invalid-name", "A file's name is text in UTF-8 without control characters.", field="name")
    size = len(name.encode())
    if size > MAX_NAME_BYTES:
        detail = f"A file's name has at most {MAX_NAME_BYTES} bytes in UTF-8; this one has {size}."
        raise Problem(400, "invalid-name", detail, field="name")
    return name
