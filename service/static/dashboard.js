// The server's own metrics as small charts: events `metric`, one a worker and beat, added up over the workers.

import { Chart } from "./chart.js";
import { element, parse } from "./list.js";

const CHARTS = new Map([
  ["streams", { title: "Open streams", unit: "" }],
  ["published_per_second", { title: "Published", unit: "/s" }],
  ["delivered_per_second", { title: "Delivered", unit: "/s" }],
  ["bytes_per_second", { title: "Sent", unit: "B/s" }],
  ["memory_bytes", { title: "Memory", unit: "B" }],
  ["cpu_seconds_per_second", { title: "CPU", unit: "%", factor: 100 }],
]);

// A worker that has not been heard of for so many of its beats, and so long, is no part of the sums any more.
const BEATS = 3;
const SILENCE_MS = 5000;
// A chart is worth a look once all of the minutes before have come, which takes no longer than this.
const FIRST_DRAW_MS = 100;
// What moves by itself disturbs some: for them the charts are drawn seldom instead of sliding each second.
const DRAW_MS = matchMedia("(prefers-reduced-motion: reduce)").matches ? 10_000 : 1000;

export class Dashboard {
  #box = document.getElementById("charts");
  #table = document.getElementById("metrics-table");
  #details = document.getElementById("metrics-details");
  #charts = new Map();
  /** @type {Map<string, {at: number, beat: number, values: object}>} by the worker's name */
  #workers = new Map();
  // The server's clock, as far as it is known here: the charts end at its now, whatever this machine's clock says.
  #ahead = null;
  #isDrawn = false;

  constructor() {
    setInterval(() => this.#draw(), DRAW_MS);
    document.addEventListener("visibilitychange", () => this.#draw());
    this.#details.addEventListener("toggle", () => this.#draw());
  }

  /** Show one event `metric`; false if it is not one. */
  show({ event, data }) {
    const metric = event === "metric" ? parse(data) : undefined;
    if (typeof metric?.ts !== "number" || typeof metric.values !== "object" || metric.values === null) {
      return false;
    }
    const at = metric.ts * 1000;
    const beat = at - (this.#workers.get(metric.worker)?.at ?? at);
    this.#workers.set(metric.worker, { at, beat, values: metric.values });
    for (const [name, worker] of this.#workers) {
      if (at - worker.at > Math.max(SILENCE_MS, BEATS * worker.beat)) {
        this.#workers.delete(name);
      }
    }
    for (const name of Object.keys(metric.values)) {
      this.#add(name, at);
    }
    this.#ahead = at - Date.now();
    if (!this.#isDrawn) {
      // Once what was before this page has come, of which this is the first.
      this.#isDrawn = true;
      setTimeout(() => this.#draw(), FIRST_DRAW_MS);
    }
    return true;
  }

  #add(name, at) {
    const known = CHARTS.get(name);
    if (known === undefined) {
      return;
    }
    let chart = this.#charts.get(name);
    if (chart === undefined) {
      chart = new Chart(known.title, known.unit);
      chart.element.dataset.metric = name;
      this.#charts.set(name, chart);
      this.#box.append(chart.element);
    }
    const sum = [...this.#workers.values()].reduce((total, { values }) => total + (Number(values[name]) || 0), 0);
    // One point a second: the workers' beats of a second are one sum.
    chart.add(Math.floor(at / 1000) * 1000, sum * (known.factor ?? 1));
  }

  #draw() {
    if (this.#ahead === null || document.hidden) {
      return;
    }
    for (const chart of this.#charts.values()) {
      chart.draw(Date.now() + this.#ahead);
    }
    if (this.#details.open) {
      this.#table.tBodies[0].replaceChildren(...[...this.#charts.values()].map(renderRow));
    }
  }
}

function renderRow(chart) {
  const row = element("tr", "");
  const [name, ...figures] = chart.figures();
  row.append(element("th", "", name), ...figures.map((figure) => element("td", "", figure)));
  row.firstElementChild.scope = "row";
  return row;
}
