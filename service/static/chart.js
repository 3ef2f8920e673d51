// One small chart: a value over the last minutes, as a line that we draw, with the same in words beside it.

import { element } from "./list.js";
import { withUnit } from "./units.js";

// What is kept, and the shorter windows that a chart begins with.
const MINUTES = [1, 2, 5];
const WINDOW_MS = MINUTES.at(-1) * 60_000;

const SVG = "http://www.w3.org/2000/svg";
// Of the drawing's own coordinates; the page stretches it, but not its line.
const WIDTH = 300;
const HEIGHT = 60;
// Above the highest and below the lowest value, so that a line's full width is seen.
const MARGIN = 2;
// Without a value for so many beats, and so long, the line is broken: nobody knows what was between.
const BEATS = 3;
const SILENCE_MS = 5000;

export class Chart {
  element = element("figure", "chart");
  #unit;
  #name;
  #points = [];
  #value = element("strong", "", "–");
  #most = element("span", "most", "");
  #least = element("span", "least", "");
  #since = element("span", "", "");
  #svg = document.createElementNS(SVG, "svg");
  #area = document.createElementNS(SVG, "path");
  #line = document.createElementNS(SVG, "path");

  /**
   * @param {string} name in words
   * @param {string} unit of its values; empty for a number of things
   */
  constructor(name, unit) {
    this.#name = name;
    this.#unit = unit;
    const caption = element("figcaption", "", name);
    caption.append(" ", this.#value);
    this.#svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    this.#svg.setAttribute("preserveAspectRatio", "none");
    this.#svg.setAttribute("role", "img");
    this.#area.setAttribute("class", "area");
    this.#line.setAttribute("class", "line-of-chart");
    this.#svg.append(this.#area, this.#line);
    const plot = element("div", "plot");
    plot.append(this.#svg, this.#most, this.#least);
    const axis = element("p", "axis");
    axis.append(this.#since, element("span", "", "now"));
    this.element.append(caption, plot, axis);
  }

  /** How many values are in the window. */
  get size() {
    return this.#points.length;
  }

  /** Take a value of the moment `at` (milliseconds); moments that are not after the last one replace it. */
  add(at, value) {
    while (this.#points.length > 0 && this.#points.at(-1).at >= at) {
      this.#points.pop();
    }
    this.#points.push({ at, value });
    const first = this.#points.findIndex((point) => point.at > at - WINDOW_MS);
    this.#points.splice(0, first);
  }

  /** Draw what is in the window that ends at the moment `now`. */
  draw(now) {
    const points = this.#points.filter(({ at }) => at > now - WINDOW_MS);
    if (points.length === 0) {
      this.#value.textContent = "–";
      this.#line.removeAttribute("d");
      this.#area.removeAttribute("d");
      return;
    }
    const minutes = MINUTES.find((each) => points[0].at > now - each * 60_000) ?? MINUTES.at(-1);
    const width = minutes * 60_000;
    const values = points.map(({ value }) => value);
    // From zero, or a value that hardly moves would look like one that does; and never of no height.
    const least = Math.min(0, ...values);
    const most = Math.max(...values) > least ? Math.max(...values) : least + 1;
    const x = (at) => (WIDTH * (at - now + width)) / width;
    const y = (value) => MARGIN + ((HEIGHT - 2 * MARGIN) * (most - value)) / (most - least);
    const runs = unbroken(points);
    this.#line.setAttribute("d", runs.map((run) => lineOf(run, x, y)).join(""));
    this.#area.setAttribute("d", runs.map((run) => `${lineOf(run, x, y)}V${HEIGHT}H${round(x(run[0].at))}Z`).join(""));
    this.#since.textContent = `${minutes} min ago`;
    this.#most.textContent = withUnit(most, this.#unit);
    this.#least.textContent = withUnit(least, this.#unit);
    this.#value.textContent = withUnit(values.at(-1), this.#unit);
    this.#svg.setAttribute("aria-label", this.inWords());
  }

  /** Return the figures of the window: text for whoever does not see the line. */
  figures() {
    const values = this.#points.map(({ value }) => value);
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const texts = [values.at(-1), Math.min(...values), Math.max(...values), mean];
    return [this.#name, ...texts.map((value) => withUnit(value, this.#unit))];
  }

  inWords() {
    const [name, now, least, most, mean] = this.figures();
    return `${name}: now ${now}, least ${least}, most ${most}, mean ${mean}`;
  }
}

/** Split the points where nothing was heard. */
function unbroken(points) {
  const beats = points.slice(1).map(({ at }, index) => at - points[index].at);
  const beat = beats.toSorted((one, other) => one - other)[beats.length >> 1] ?? 0;
  const silence = Math.max(SILENCE_MS, BEATS * beat);
  const runs = [];
  for (const point of points) {
    const run = runs.at(-1);
    if (run !== undefined && point.at - run.at(-1).at <= silence) {
      run.push(point);
    } else {
      runs.push([point]);
    }
  }
  return runs;
}

// A line of no length has round ends, and so one point is seen, too.
function lineOf(run, x, y) {
  const [first, ...rest] = run.map(({ at, value }) => `${round(x(at))} ${round(y(value))}`);
  return `M${first}${rest.length > 0 ? rest.map((point) => `L${point}`).join("") : "h0"}`;
}

function round(value) {
  return Math.round(value * 10) / 10;
}
