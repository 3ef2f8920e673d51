"""The routes in Django, with the middleware of a new project that needs no database."""

from __future__ import annotations

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path

from tests.integration.apps import common

settings.configure(
    ROOT_URLCONF=__name__,
    SECRET_KEY="test",
    ALLOWED_HOSTS=["*"],
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.middleware.http.ConditionalGetMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ],
)
django.setup()


def events(request: HttpRequest) -> StreamingHttpResponse:
    stream = common.hub.subscribe(common.topics(request.META["QUERY_STRING"]), environ=request.META)
    return StreamingHttpResponse(stream, headers=dict(stream.headers + common.head()))


def publish(request: HttpRequest) -> HttpResponse:
    return HttpResponse(common.publish(request.META["QUERY_STRING"]))


def stats(request: HttpRequest) -> HttpResponse:
    return HttpResponse(common.stats())


def plain(request: HttpRequest) -> HttpResponse:
    return HttpResponse("plain\n")


urlpatterns = [path("events", events), path("publish", publish), path("stats", stats), path("plain", plain)]
application = get_wsgi_application()
