// A stream beside the page's own: a run, a demonstration. Events on the wire do not carry their topic, so what must be told
// apart from all other events has a connection of its own, for as long as it takes.

import { askWhy } from "./problem.js";

// A browser has six connections to a host over HTTP/1.1. The page's own stream takes one, and one is left for requests.
const MOST_OVER_HTTP_1 = 4;
const MOST = 50;

const open = new Set();

/** What a page is told that has too many streams: as if the server had refused one more. */
export const TOO_MANY = {
  title: "Too many streams at once",
  detail: "A browser has six connections to a server over HTTP/1.1. Stop one of the page's streams first.",
};

/** Whether one more stream may be opened: to be asked before something is started that nobody could listen to. */
export function hasRoom() {
  const [navigation] = performance.getEntriesByType("navigation");
  return open.size < (["h2", "h3"].includes(navigation?.nextHopProtocol) ? MOST : MOST_OVER_HTTP_1);
}

/** How a finite topic ends: these are its last events. */
export const LAST = ["done", "failed"];

/**
 * @typedef {{event: string, data: any}} Last the `done` or `failed` of a run; its data is parsed, an object
 *
 * @typedef {object} Handlers
 * @property {(event: {id: string, event: string, data: string}) => void} onEvent gets each event but the last
 * @property {(ended: {last: Last | null, problem: object | null}) => void} onEnd is called once, if nobody closes the stream
 *   before: with its last event, or with what the server said when it refused
 * @property {(isLost: boolean) => void} [onLost] is told when the connection breaks, and when it is back
 * @property {string[]} [names] of the events to hear, besides `message`, `gap` and the last ones
 */

export class OwnStream {
  #path;
  #handlers;
  #source = null;
  #lastId = null;
  #isLost = false;

  /**
   * Open it. A page that has too many of them is told so through `onEnd`.
   *
   * @param {string} path relative to the page
   * @param {Handlers} handlers
   */
  constructor(path, handlers) {
    this.#path = path;
    this.#handlers = handlers;
    if (!hasRoom()) {
      queueMicrotask(() => handlers.onEnd({ last: null, problem: TOO_MANY }));
      return;
    }
    const source = new EventSource(path);
    this.#source = source;
    open.add(this);
    for (const name of new Set(["message", "gap", ...(handlers.names ?? []), ...LAST])) {
      source.addEventListener(name, this.#receive);
    }
    source.addEventListener("open", () => this.#lose(false));
    source.addEventListener("error", () => this.#fail(source));
  }

  /** Close it. Nothing is called afterwards. */
  close() {
    this.#source?.close();
    this.#source = null;
    open.delete(this);
  }

  #receive = (event) => {
    // The browser dispatches events of its own; only what came over the wire is a message.
    if (!(event instanceof MessageEvent) || this.#source === null) {
      return;
    }
    this.#lastId = event.lastEventId || this.#lastId;
    if (LAST.includes(event.type)) {
      this.#end({ last: { event: event.type, data: asObject(event.data) }, problem: null });
    } else {
      this.#handlers.onEvent({ id: event.lastEventId, event: event.type, data: event.data });
    }
  };

  #fail(source) {
    if (source !== this.#source) {
      return;
    }
    if (source.readyState !== EventSource.CLOSED) {
      this.#lose(true);
      return;
    }
    const url = new URL(this.#path, location.href);
    if (this.#lastId) {
      // Else the question would start what it asks about anew.
      url.searchParams.set("last_event_id", this.#lastId);
    }
    askWhy(url).then((problem) => {
      if (source === this.#source) {
        this.#end({ last: null, problem });
      }
    });
  }

  #lose(isLost) {
    if (isLost !== this.#isLost) {
      this.#isLost = isLost;
      this.#handlers.onLost?.(isLost);
    }
  }

  #end(ended) {
    this.close();
    this.#handlers.onEnd(ended);
  }
}

function asObject(text) {
  try {
    const value = JSON.parse(text);
    return typeof value === "object" && value !== null ? value : {};
  } catch {
    return {};
  }
}
