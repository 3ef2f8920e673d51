"""A language model's answer, token by token, in Flask: what `Response(tokens(prompt), mimetype="text/event-stream")` would be.

`gunicorn -k sse_core.worker.EventWorker --threads 4 examples.llm_flask:app`, with `ANTHROPIC_API_KEY` in the environment.

It differs in what becomes of it. The model is asked once: a client that loses its connection goes on where it was. The
stream has an end that the client knows. While it is open it holds no thread of the server.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
from flask import Flask, Response, request

from sse_core import FailedError, Hub

MODEL = "claude-opus-4-5"
PAGE = Path(__file__).with_name("llm.html").read_text()

app = Flask(__name__)
hub = Hub()


@app.get("/")
def page() -> str:
    return PAGE


@app.get("/generate")
def generate() -> Response:
    prompt = request.args.get("prompt", "Tell me a short story.")
    # A function, and not its generator: for a client that comes back nothing is asked again.
    stream = hub.stream(lambda: tokens(prompt), request.environ)
    return Response(stream, status=stream.status, headers=stream.headers)


def tokens(prompt: str) -> Iterator[Any]:
    try:
        with (
            anthropic.Anthropic() as client,
            client.messages.stream(
                model=MODEL, max_tokens=512, messages=[{"role": "user", "content": prompt}]
            ) as stream,
        ):
            for text in stream.text_stream:
                yield {"data": {"token": text}}
            message = stream.get_final_message()
    except anthropic.APIError as error:
        # Only what this says is shown; what went wrong is the log's affair.
        raise FailedError("The model cannot be asked now.", reason="upstream") from error
    # It goes into the data of the last event, `done`.
    return {"finish_reason": message.stop_reason, "output_tokens": message.usage.output_tokens}
