// One EventSource for the whole page, and what can honestly be said about it.
//
// A browser reconnects by itself and sends the last id it saw. It tells a page little: that a connection opened, that it
// broke, or that it is closed for good. It tells neither the delay before the next attempt nor the reason of an end, so the
// first is shown as a bound and the second is asked for with a request of our own.

import { askWhy } from "./problem.js";

// The longest delay that the server tells anybody: the upper end of its drain_retry, and of nginx's soft answers.
export const LONGEST_RETRY_MS = 5000;

// What a stream asks for that has seen nothing yet: all that is left.
const FROM_THE_START = "0-0";

/**
 * @typedef {"connecting" | "open" | "live" | "retrying" | "ended"} State
 * `open`: the server has answered, but no event has come yet; a server that is full or stopping answers, and then closes.
 * `retrying`: the browser will try again by itself. `ended`: it will not.
 *
 * @typedef {{state: State, since: number, lostAt: number | null, attempts: number, problem: object | null}} Status
 * `since` and `lostAt` are milliseconds since the epoch; `problem` is what the server said when it ended the stream.
 */

export class Connection {
  #path;
  #source = null;
  #topics;
  #names = new Set(["message"]);
  #lastId = FROM_THE_START;
  #heard = false;
  #onStatus;
  #onEvent;

  /** @type {Status} */
  status = { state: "connecting", since: Date.now(), lostAt: null, attempts: 0, problem: null };

  /**
   * @param {string} path of the stream, relative to the page
   * @param {{topics: string[], onStatus: (status: Status) => void, onEvent: (event: object) => void}} options
   */
  constructor(path, { topics, onStatus, onEvent }) {
    this.#path = path;
    this.#topics = topics;
    this.#onStatus = onStatus;
    this.#onEvent = onEvent;
  }

  get topics() {
    return [...this.#topics];
  }

  get names() {
    return [...this.#names];
  }

  /** Hear events of this name too: an EventSource passes on only the names that are asked for. */
  listen(name) {
    if (!this.#names.has(name)) {
      this.#names.add(name);
      this.#source?.addEventListener(name, this.#receive);
    }
  }

  /** Open a stream after the last event that was seen, of `topics` if given. */
  open(topics = this.#topics) {
    this.#topics = topics;
    this.#source?.close();
    this.#heard = false;
    this.#become("connecting", { problem: null });
    const source = new EventSource(this.#url());
    this.#source = source;
    for (const name of this.#names) {
      source.addEventListener(name, this.#receive);
    }
    source.addEventListener("open", () => this.#become("open"));
    source.addEventListener("error", () => this.#fail(source));
  }

  #url() {
    const parameters = new URLSearchParams(this.#topics.map((topic) => ["topic", topic]));
    // Only for the first request of an EventSource: when it reconnects, its Last-Event-ID header wins.
    parameters.set("last_event_id", this.#lastId);
    return `${this.#path}?${parameters}`;
  }

  #receive = (event) => {
    // The browser dispatches an `error` of its own under the same name; only what came over the wire is a message.
    if (!(event instanceof MessageEvent)) {
      return;
    }
    this.#heard = true;
    this.#lastId = event.lastEventId || this.#lastId;
    if (this.status.state !== "live") {
      this.#become("live", { lostAt: null, attempts: 0 });
    }
    this.#onEvent({ id: event.lastEventId, event: event.type, data: event.data, at: Date.now() });
  };

  #fail(source) {
    if (source !== this.#source) {
      return;
    }
    if (source.readyState === EventSource.CLOSED) {
      this.#become("ended");
      this.#explain(source);
      return;
    }
    const { lostAt, attempts } = this.status;
    this.#become("retrying", {
      lostAt: lostAt ?? Date.now(),
      attempts: attempts + 1,
      sentAway: this.status.state === "open" && !this.#heard,
    });
    this.#heard = false;
  }

  async #explain(source) {
    const problem = await askWhy(this.#url());
    if (source === this.#source) {
      this.#become("ended", { problem });
    }
  }

  #become(state, changes = {}) {
    this.status = { ...this.status, sentAway: false, ...changes, state, since: Date.now() };
    this.#onStatus(this.status);
  }
}
