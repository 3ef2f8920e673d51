"""``/generate``: a language model's answer, as a run that resumes, outlives its connection and can be stopped."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from concurrent.futures import Future

import falcon

from sse_core import BackplaneError, EventStream

from ..auth import check_start
from ..backplane import DEFAULT_NAMESPACE
from ..bodies import read_body
from ..llm import Generation
from ..llm.events import events
from ..llm.providers import Providers
from ..llm.requests import GenerationRequest, from_json, from_query
from ..namespaces import Namespaces
from ..problems import Problem, backplane_problem
from ..runs import JSON, accept_run, check_accept, place_of
from ..topics import RUN_PREFIX

RUN_BYTES = 16
# What browsers say of a request that a page of another origin has made, an image's or a frame's too (Fetch Metadata).
FOREIGN_SITES = frozenset({"cross-site", "same-site"})


class GenerateResource:
    """Starts generations. Everything about a request is checked before anything is started for it.

    ``origins`` are those whose pages may ask with GET, besides our own.
    """

    def __init__(
        self,
        namespaces: Namespaces,
        providers: Providers,
        *,
        max_body_bytes: int,
        max_prompt_bytes: int,
        abandon_after: float,
        origins: frozenset[str] = frozenset(),
    ) -> None:
        namespace = namespaces.find(DEFAULT_NAMESPACE)
        self._hub = namespace.hub
        self._subscriber = namespace.subscriber
        self._clients = namespaces.clients
        self._providers = providers
        self._max_body_bytes = max_body_bytes
        self._max_prompt_bytes = max_prompt_bytes
        self._abandon_after = abandon_after
        self._origins = origins

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Start a run for the JSON body, and answer where it is, or with its stream (see `sse_kit.runs`)."""
        check_start(req, "generate")
        check_accept(req)
        if (req.content_type or "").partition(";")[0].strip().lower() != JSON:
            # Also what keeps a foreign page from asking by a plain form: those types need no preflight.
            raise falcon.HTTPUnsupportedMediaType(description=f"Send {JSON}.")
        body = read_body(req, self._max_body_bytes)
        answer = self._answer(from_json(body, max_prompt_bytes=self._max_prompt_bytes))
        run = secrets.token_urlsafe(RUN_BYTES)
        place = self._clients.enter_run(req)
        try:
            producer = self._hub.produce(
                place.of(lambda: answer.events(run)),
                topic=RUN_PREFIX + run,
                abort=answer.generation.abort,
                abandon_after=self._abandon_after,
            )
        except BackplaneError as error:
            place.leave()
            raise backplane_problem(error, "Nothing was asked; try again.") from None
        except BaseException:
            place.leave()
            raise
        accept_run(req, resp, producer, self._subscriber)

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Stream the answer to the query's prompt; to who comes back with an id of it, the rest of the same answer."""
        check_start(req, "generate")
        self._check_site(req)
        answer = self._answer(from_query(req.params, max_prompt_bytes=self._max_prompt_bytes))
        run: Future[str | None] = Future()
        try:
            self._subscriber.produce(
                req,
                resp,
                lambda: answer.events_of(run),
                abort=answer.generation.abort,
                abandon_after=self._abandon_after,
            )
        finally:
            # Only the stream knows the run's name, and the run waits for it.
            run.set_result(_run_of(resp.stream))
        if name := run.result():
            resp.set_header("Content-Location", place_of(req, name))

    on_head = on_get

    def _answer(self, request: GenerationRequest) -> _Answer:
        provider = self._providers.find(request.provider)
        prompt = self._providers.prompt(provider, request)
        return _Answer(provider.generate(prompt), provider=provider.name, model=prompt.model)

    def _check_site(self, req: falcon.Request) -> None:
        """Raise 403 for what a page of a foreign origin asks: it would not see the answer, but we would pay for it."""
        if req.get_header("Sec-Fetch-Site") in FOREIGN_SITES and req.get_header("Origin") not in self._origins:
            raise Problem(403, "foreign-origin", "Pages of other origins may not ask here.")


class _Answer:
    """One generation and what its events say of it."""

    def __init__(self, generation: Generation, *, provider: str, model: str) -> None:
        self.generation = generation
        self._provider = provider
        self._model = model

    def events(self, run: str) -> Iterable[object]:
        """Its events, once the run has a name."""
        return events(self.generation, run, provider=self._provider, model=self._model)

    def events_of(self, run: Future[str | None]) -> Iterable[object]:
        """The same, once it is known which; None for a run that nobody will hear of."""
        name = run.result()
        # There was no room for its stream: nobody would get what the provider is paid for.
        return () if name is None else self.events(name)


def _run_of(stream: object) -> str | None:
    """Return the run that a response streams, None if it does not."""
    topics = stream.topics if isinstance(stream, EventStream) else ()
    return topics[0].removeprefix(RUN_PREFIX) if topics else None
