"""The application of django-eventstream that is measured: ``uvicorn benchmarks.children.django_app:app``.

In one process and without a storage, so that it has nothing to do but deliver.
"""

from __future__ import annotations

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import include, path

CHANNEL = "benchmark"

settings.configure(
    SECRET_KEY="of a benchmark",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django_eventstream"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    MIDDLEWARE=[],
    LOGGING_CONFIG=None,
)
django.setup()

# Only now: it looks at the settings when it is imported.
from django_eventstream import send_event  # noqa: E402


def publish(request: HttpRequest) -> HttpResponse:
    """Publish the body."""
    send_event(CHANNEL, "message", request.body.decode(), json_encode=False)
    return HttpResponse(status=204)


def healthz(_: HttpRequest) -> HttpResponse:
    """Answer."""
    return HttpResponse()


urlpatterns = [
    path("events", include("django_eventstream.urls"), {"channels": [CHANNEL]}),
    path("publish", publish),
    path("healthz", healthz),
]
app = get_asgi_application()
