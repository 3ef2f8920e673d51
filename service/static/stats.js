// The counters of the server's workers, once a second from each: the telling ones as figures, all of them as a list.
//
// A worker that has not been heard of for some seconds is gone, or cannot be heard: what it counted is not in the sums.

import { element, parse, timeOfDay } from "./list.js";

const NUMBER = new Intl.NumberFormat();
const SILENCE_MS = 5000;

export class StatsPanel {
  #figures = document.getElementById("figures");
  #counters = document.getElementById("counters");
  #table = document.getElementById("workers");
  #time = document.getElementById("server-time");
  #cells = new Map();
  /** @type {Map<string, {stats: object, rates: Map<string, number>, heardAt: number}>} by the worker's name */
  #workers = new Map();
  #onStreams;

  /**
   * @param {(streams: number | null) => void} onStreams is told how many streams there are with each event, and null when
   *   nothing is heard any more
   */
  constructor(onStreams) {
    this.#onStreams = onStreams;
    setInterval(() => this.#forget(), 1000);
  }

  /** Show one event `stats`; false if it is not one. */
  show({ event, data }) {
    const stats = event === "stats" ? parse(data) : undefined;
    if (typeof stats?.time !== "number") {
      return false;
    }
    const last = this.#workers.get(stats.worker)?.stats;
    const rates = new Map(RATES.map((name) => [name, perSecond(name, stats, last)]));
    this.#workers.set(stats.worker, { stats, rates, heardAt: Date.now() });
    this.#time.textContent = timeOfDay(stats.time * 1000);
    this.#render();
    this.#onStreams(this.#sum("streams"));
    return true;
  }

  #forget() {
    const now = Date.now();
    const before = this.#workers.size;
    for (const [name, { heardAt }] of this.#workers) {
      if (now - heardAt > SILENCE_MS) {
        this.#workers.delete(name);
      }
    }
    if (this.#workers.size === before) {
      return;
    }
    if (this.#workers.size > 0) {
      this.#render();
      return;
    }
    // The last figures stay, and are said to be old.
    this.#time.textContent = `no figures since ${this.#time.textContent}`;
    this.#onStreams(null);
  }

  #render() {
    this.#set(this.#figures, "workers", NUMBER.format(this.#workers.size));
    for (const { name, label, rate } of FIGURES) {
      if (rate || [...this.#workers.values()].some(({ stats }) => name in stats)) {
        this.#set(this.#figures, label, rate ? this.#rate(name) : NUMBER.format(this.#sum(name)));
      }
    }
    const names = new Set([...this.#workers.values()].flatMap(({ stats }) => Object.keys(stats)));
    for (const name of names) {
      if (name !== "time" && name !== "worker") {
        this.#set(this.#counters, name.replaceAll("_", " "), NUMBER.format(this.#sum(name)));
      }
    }
    this.#renderTable();
  }

  /** One row a worker, where there are several. */
  #renderTable() {
    this.#table.hidden = this.#workers.size < 2;
    const rows = [...this.#workers].sort(([one], [other]) => (one < other ? -1 : 1));
    this.#table.tBodies[0].replaceChildren(
      ...rows.map(([name, { stats, rates }]) => {
        const row = element("tr", "");
        row.append(element("th", "", name));
        row.firstElementChild.scope = "row";
        const values = [stats.streams, ...RATES.map((rate) => rates.get(rate))];
        row.append(...values.map((value) => element("td", "", Number.isNaN(value) ? "–" : NUMBER.format(value))));
        return row;
      }),
    );
  }

  #sum(name) {
    return [...this.#workers.values()].reduce((sum, { stats }) => sum + (stats[name] ?? 0), 0);
  }

  #rate(name) {
    const rates = [...this.#workers.values()].map(({ rates }) => rates.get(name)).filter((rate) => !Number.isNaN(rate));
    return rates.length > 0 ? NUMBER.format(rates.reduce((sum, rate) => sum + rate, 0)) : "–";
  }

  #set(list, label, text) {
    const key = `${list.id} ${label}`;
    let cell = this.#cells.get(key);
    if (cell === undefined) {
      const entry = element("div", "");
      cell = element("dd", "");
      entry.append(element("dt", "", label), cell);
      list.append(entry);
      this.#cells.set(key, cell);
    }
    cell.textContent = text;
  }
}

/** How much a counter of one worker grows; NaN if that cannot be said: a worker that began anew counts from zero again. */
function perSecond(name, stats, last) {
  const seconds = stats.time - last?.time;
  const more = stats[name] - last?.[name];
  return seconds > 0 && more >= 0 ? Math.round(more / seconds) : Number.NaN;
}

const RATES = ["events_published", "events_delivered"];
const FIGURES = [
  { name: "streams", label: "open streams" },
  { name: "topics", label: "topics" },
  { name: "events_published", label: "published" },
  { name: "events_published", label: "published / s", rate: true },
  { name: "events_delivered", label: "delivered" },
  { name: "events_delivered", label: "delivered / s", rate: true },
];
