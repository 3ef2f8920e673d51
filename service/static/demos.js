// Small streams to look at: messages a second apart, a sentence character by character, one counter for all, a watched key.

import { element, parse, timeOfDay } from "./list.js";
import { renderProblem } from "./problem.js";
import { OwnStream } from "./stream.js";

const MOST_LINES = 100;

/** One form with a button that starts and stops its stream, and a place for what comes. */
class Demo {
  #form;
  #button;
  #state;
  #output;
  #path;
  #show;
  #stream = null;

  /**
   * @param {string} id of the form
   * @param {(fields: HTMLFormControlsCollection) => string} path of the stream, relative to the page
   * @param {(output: HTMLElement, data: string) => void} show one event's data
   */
  constructor(id, path, show) {
    this.#form = document.getElementById(id);
    this.#button = this.#form.querySelector("button");
    this.#state = this.#form.querySelector("[role=status]");
    this.#output = this.#form.querySelector(".output");
    this.#path = path;
    this.#show = show;
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.#stream === null) {
        this.start();
      } else {
        this.#end("Stopped");
      }
    });
  }

  get fields() {
    return this.#form.elements;
  }

  /** Open the stream, unless it is open. */
  start() {
    if (this.#stream !== null) {
      return;
    }
    this.#output.replaceChildren();
    this.#state.textContent = "Connecting";
    this.#button.textContent = "Stop";
    this.#stream = new OwnStream(this.#path(this.fields), {
      names: ["unsupported"],
      onEvent: ({ event, data }) => {
        this.#state.textContent = "Live";
        if (event === "gap") {
          this.#output.append(element("p", "gap", "Events are missing here."));
        } else {
          this.#show(this.#output, data);
        }
      },
      onEnd: ({ last, problem }) => {
        this.#end(last?.event === "failed" ? (last.data.message ?? "Failed") : "Ended");
        if (problem !== null) {
          this.#state.replaceChildren(renderProblem(problem));
        }
      },
      onLost: (isLost) => {
        this.#state.textContent = isLost ? "Connection lost - retrying…" : "Connected";
      },
    });
  }

  #end(words) {
    this.#stream?.close();
    this.#stream = null;
    this.#button.textContent = "Start";
    this.#state.textContent = words;
  }
}

export class DemosPanel {
  #watch = new Demo(
    "watch",
    ({ key }) => `watch/${encodeURIComponent(key.value)}`,
    (output, data) => {
      const { value, detail, ts } = parse(data) ?? {};
      const line = element("p", "");
      line.append(element("time", "", timeOfDay(ts)), " ", detail ?? value ?? element("em", "", "There is no such key."));
      addLine(output, line);
    },
  );

  constructor() {
    new Demo(
      "ticker",
      ({ n, interval }) => `demo/ticker?${new URLSearchParams({ n: n.value, interval: interval.value })}`,
      (output, data) => addLine(output, element("p", "", data)),
    );
    new Demo(
      "echo",
      ({ sent }) => `demo/echo?${new URLSearchParams({ sent: sent.value })}`,
      (output, data) => output.append(data),
    );
    new Demo(
      "counter",
      () => "demo/counter",
      (output, data) => output.replaceChildren(data),
    );
  }

  /** Watch the key that the page's address names, `?watch=KEY`, if it names one. */
  watch(key) {
    if (key) {
      this.#watch.fields.key.value = key;
      this.#watch.start();
    }
  }
}

function addLine(output, line) {
  output.append(line);
  while (output.childElementCount > MOST_LINES) {
    output.firstElementChild.remove();
  }
  output.scrollTop = output.scrollHeight;
}
