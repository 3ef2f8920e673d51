// How the page tells the state of its connection, and what is missing.

import { LONGEST_RETRY_MS } from "./connection.js";
import { element } from "./list.js";
import { inWords } from "./problem.js";

const WORDS = {
  connecting: "Connecting",
  open: "Connected",
  live: "Live",
  retrying: "Connection lost",
  ended: "Ended",
};

const GAP_REASONS = {
  trimmed: "they were older than what the server keeps",
  restart: "the server restarted and forgot them",
  "unknown-id": "the server does not know where this page left off",
  overflow: "this page was too slow to take them",
};

export class StatePanel {
  #box = document.getElementById("connection");
  #word = document.getElementById("state");
  #reason = document.getElementById("reason");
  #countdown = document.getElementById("countdown");
  #again = document.getElementById("again");
  #timer = null;

  /** @param {() => void} onAgain is called when the user wants a stream that has ended back */
  constructor(onAgain) {
    this.#again.addEventListener("click", onAgain);
  }

  /** Show a status of `Connection`. */
  show(status) {
    clearInterval(this.#timer);
    this.#box.dataset.state = status.state;
    this.#word.textContent = WORDS[status.state];
    this.#reason.textContent = reasonOf(status);
    this.#again.hidden = status.state !== "ended";
    this.#countdown.hidden = status.state !== "retrying";
    if (status.state === "retrying") {
      this.#count(status);
      this.#timer = setInterval(() => this.#count(status), 250);
    }
  }

  #count({ since, lostAt, attempts }) {
    const now = Date.now();
    const left = Math.ceil((since + LONGEST_RETRY_MS - now) / 1000);
    const lost = Math.round((now - lostAt) / 1000);
    const next = left > 0 ? `Retrying in ${left} s at the latest` : "Trying now";
    this.#countdown.textContent = `${next} · attempt ${attempts} · without connection for ${lost} s`;
  }
}

function reasonOf({ state, problem, sentAway }) {
  switch (state) {
    case "open":
      return "and waiting for the first event";
    case "retrying":
      return sentAway ? "The server asked this page to come back later." : "The browser tries again by itself.";
    case "ended":
      return problem === null ? "by the server; asking why" : inWords(problem);
    default:
      return "";
  }
}

/** What is missing since when, until the user has seen it. */
export class GapNotice {
  #box = document.getElementById("gap");
  #text = document.getElementById("gap-text");

  constructor() {
    document.getElementById("gap-seen").addEventListener("click", () => {
      this.#box.hidden = true;
      this.#text.replaceChildren();
    });
  }

  show(text) {
    this.#text.append(element("p", "", text));
    this.#box.hidden = false;
  }
}

/** Return a gap event's data in words. */
export function describeGap({ topic, reason, oldest }) {
  const why = GAP_REASONS[reason] ?? reason;
  const rest = oldest ? `What is left begins at ${oldest}.` : "Nothing older is left.";
  return `Gap in ${topic} (${reason}): events may be missing, because ${why}. ${rest}`;
}
