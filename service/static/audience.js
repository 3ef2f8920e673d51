// How many listen to the page's topics, over all processes: asked for when the number of streams has changed.
//
// Not on a clock: each question is a line in the access log, which this very page shows.

import { parse } from "./list.js";

// Processes report to each other with a delay; an answer that comes before is the old one.
const REPORT_MS = 3000;
const FORBIDDEN = 403;

export class AudiencePanel {
  #note = document.getElementById("audience");
  #path;
  #topics;
  #streams = null;
  #timer = null;
  #isOutdated = false;
  #isForbidden = false;

  /**
   * @param {string} path below which each topic has a resource, relative to the page
   * @param {string[]} topics that the page shows
   */
  constructor(path, topics) {
    this.#path = path;
    this.#topics = topics;
  }

  /** Take note of how many streams the server has; null if that is not known. */
  streamsAre(streams) {
    if (this.#isForbidden || streams === this.#streams) {
      return;
    }
    const isFirst = this.#streams === null;
    this.#streams = streams;
    if (streams === null) {
      clearTimeout(this.#timer);
      this.#timer = null;
      this.#say("How many listen is not known now.");
    } else {
      // At once, too: a page that was just opened shall not wait, and the numbers of all others are old already.
      if (isFirst) {
        this.#ask();
      }
      this.#askLater();
    }
  }

  /** Ask so long after a change that all have reported it; in constant change as often as that. */
  #askLater() {
    if (this.#timer !== null) {
      this.#isOutdated = true;
      return;
    }
    this.#isOutdated = false;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#ask();
      if (this.#isOutdated) {
        this.#askLater();
      }
    }, REPORT_MS);
  }

  async #ask() {
    try {
      this.#say((await Promise.all(this.#topics.map((topic) => this.#count(topic)))).join(" · "));
    } catch {
      this.#say("How many listen is not known now.");
    }
  }

  async #count(topic) {
    const answer = await fetch(`${this.#path}/${encodeURIComponent(topic)}?limit=1`, { cache: "no-store" });
    // Who operates the server may not want to tell everybody; then there is nothing to say.
    this.#isForbidden ||= answer.status === FORBIDDEN;
    const { streams } = parse(await answer.text()) ?? {};
    if (!answer.ok || typeof streams !== "number") {
      throw new Error(`no numbers: ${answer.status}`);
    }
    return `${streams} ${streams === 1 ? "stream listens" : "streams listen"} to ${topic}`;
  }

  #say(text) {
    this.#note.textContent = this.#isForbidden ? "" : text;
    this.#note.hidden = this.#isForbidden;
  }
}
