// The access log: events `line` with {"line": ..., "ts": ...}, whose line is one JSON object of nginx's format.

import { BoundedList, element, parse, timeOfDay } from "./list.js";

export class LogPanel {
  #list = new BoundedList(document.getElementById("log-list"), renderLine);
  #count = document.getElementById("log-count");
  #note = document.getElementById("log-note");
  #lines = 0;

  /** Show one event of a log's topic; false if it is not one. */
  show({ event, data }) {
    const value = parse(data);
    if (event === "line" && typeof value?.line === "string") {
      this.#lines += 1;
      this.#count.textContent = String(this.#lines);
      this.#list.append(value);
      return true;
    }
    if (event === "truncated") {
      this.#list.append({ note: "The file was truncated: lines may be missing here.", ts: Date.now() });
      return true;
    }
    if (event === "skipped" && typeof value?.bytes === "number") {
      const note = `Nobody had read the file for long: ${value.bytes} bytes are left out here.`;
      this.#list.append({ note, ts: Date.now() });
      return true;
    }
    return false;
  }

  /** Show that lines may be missing, or come again, at this place: a restarted service begins with the last lines. */
  showGap(text) {
    this.#list.append({ note: text, ts: Date.now() });
  }

  /** Show that the connection is lost at this place, or back. */
  showLoss(isLost, at) {
    this.#list.append({ note: isLost ? "Connection lost - retrying…" : "Connected again.", ts: at });
  }

  /** Show that the server has ended the stream. */
  showEnd(at) {
    this.#list.append({ note: "Stream ended.", ts: at });
  }

  /** Say why there is nothing to see. */
  explain(text) {
    this.#note.textContent = text;
  }
}

function renderLine({ line, ts, cut, note }) {
  if (note) {
    const said = element("li", "gap");
    said.append(element("time", "", timeOfDay(ts)), " ", note);
    return said;
  }
  const request = parse(line);
  const item = element("li", "line");
  if (typeof request?.method !== "string") {
    // Some other format: as it is.
    item.append(element("time", "", timeOfDay(ts)), element("span", "path", cut ? `${line} …` : line));
    return item;
  }
  const status = element("span", "status", request.status);
  status.dataset.class = String(request.status).charAt(0);
  const details = [`${Math.round(request.seconds * 1000)} ms`, `${request.bytes} B`];
  if (request.upstream_status && request.upstream_status !== String(request.status)) {
    // nginx answered in gunicorn's place.
    details.push(`upstream ${request.upstream_status}`);
  }
  if (request.limited) {
    details.push(`limit: ${request.limited}`);
  }
  item.append(
    element("time", "", timeOfDay(request.time)),
    status,
    element("span", "path", `${request.method} ${request.path}`),
    element("span", "details", details.join(" · ")),
  );
  item.title = `${request.address}  ${request.user_agent}`;
  return item;
}
