// The server's counters, once a second: the telling ones as figures, all of them as a list.

import { element, parse, timeOfDay } from "./list.js";

const NUMBER = new Intl.NumberFormat();

export class StatsPanel {
  #figures = document.getElementById("figures");
  #counters = document.getElementById("counters");
  #time = document.getElementById("server-time");
  #cells = new Map();
  #last = null;

  /** Show one event `stats`; false if it is not one. */
  show({ event, data }) {
    const stats = event === "stats" ? parse(data) : undefined;
    if (typeof stats?.time !== "number") {
      return false;
    }
    this.#time.textContent = timeOfDay(stats.time * 1000);
    const { time, ...values } = stats;
    for (const { name, label, rate } of FIGURES) {
      if (name in values) {
        this.#set(this.#figures, label, rate ? this.#perSecond(name, stats) : NUMBER.format(values[name]));
      }
    }
    for (const [name, value] of Object.entries(values)) {
      this.#set(this.#counters, name.replaceAll("_", " "), NUMBER.format(value));
    }
    this.#last = stats;
    return true;
  }

  #perSecond(name, stats) {
    const seconds = this.#last === null ? 0 : stats.time - this.#last.time;
    const more = this.#last === null ? 0 : stats[name] - this.#last[name];
    // A restarted server counts from zero again.
    return seconds > 0 && more >= 0 ? NUMBER.format(Math.round(more / seconds)) : "–";
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

const FIGURES = [
  { name: "streams", label: "open streams" },
  { name: "topics", label: "topics" },
  { name: "events_published", label: "published" },
  { name: "events_published", label: "published / s", rate: true },
  { name: "events_delivered", label: "delivered" },
  { name: "events_delivered", label: "delivered / s", rate: true },
];
