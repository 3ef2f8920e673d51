"""Django in one file: `gunicorn -k sse_core.worker.EventWorker --threads 4 examples.django_app:app`"""

from pathlib import Path

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path
from django.views.decorators.http import require_POST, require_safe

from sse_core import EventError, Hub

PAGE = Path(__file__).with_name("page.html").read_text()

hub = Hub()


@require_safe
def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse(PAGE)


@require_safe
def events(request: HttpRequest) -> StreamingHttpResponse:
    # With the environ the hub finds the id to resume after, and sees that a HEAD request gets no body.
    stream = hub.subscribe("news", environ=request.environ)
    return StreamingHttpResponse(stream, headers=dict(stream.headers))


@require_POST
def publish(request: HttpRequest) -> HttpResponse:
    try:
        return HttpResponse(hub.publish("news", request.body).id)
    except EventError as error:
        return HttpResponse(str(error), status=400)


urlpatterns = [path("", page), path("events", events), path("publish", publish)]

settings.configure(ALLOWED_HOSTS=["localhost", "127.0.0.1"], ROOT_URLCONF=__name__)
app = get_wsgi_application()
