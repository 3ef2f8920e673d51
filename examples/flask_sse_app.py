"""An application of flask-sse, moved over by one line, the one that imports `sse`. See docs/flask-sse.md.

`gunicorn -k sse_core.worker.EventWorker --threads 4 examples.flask_sse_app:app`, then http://127.0.0.1:8000/

With `REDIS_URL=redis://127.0.0.1:6379/0` and `--workers 4` it is as many processes as you like; without, it is one.
"""

import os

from flask import Flask, Response, abort, jsonify, render_template_string, request

from sse_core.contrib.flask import sse

PAGE = """
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Notices</title>
<form><input name="text" aria-label="Notice" autocomplete="off" required> <button>Publish</button></form>
<ol></ol>
<script>
  const source = new EventSource("{{ url_for('sse.stream') }}");
  source.addEventListener("notice", (event) => {
    const item = document.createElement("li");
    item.textContent = JSON.parse(event.data).text;
    document.querySelector("ol").append(item);
  });
  document.querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    const body = JSON.stringify({ text: event.target.elements.text.value });
    fetch("{{ url_for('publish') }}", { method: "POST", headers: { "Content-Type": "application/json" }, body });
    event.target.reset();
  });
</script>
</html>
"""


@sse.before_request
def check_access() -> None:
    if request.args.get("channel") == "staff" and "staff" not in request.cookies:
        abort(403)


app = Flask(__name__)
app.config["REDIS_URL"] = os.environ.get("REDIS_URL", "memory")
app.register_blueprint(sse, url_prefix="/stream")


@app.get("/")
def page() -> str:
    return render_template_string(PAGE)


@app.post("/publish")
def publish() -> Response:
    sse.publish(request.get_json(), type="notice", channel=request.args.get("channel", "sse"))
    return jsonify(status="published")
