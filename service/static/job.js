// A job on a file: sent to the server, which counts its lines and makes its checksum, with a progress bar for both.
//
// The job is a run: a reload goes on with its progress. While the file is on its way there is no job yet, and a reload
// ends it.

import { element, parse } from "./list.js";
import { renderProblem } from "./problem.js";
import { Run, describeEnd } from "./run.js";
import { TOO_MANY, hasRoom } from "./stream.js";
import { inBytes, inTime } from "./units.js";
import { upload } from "./upload.js";

const NUMBER = new Intl.NumberFormat();

export class JobPanel {
  #form = document.getElementById("job-form");
  #start = document.getElementById("job-start");
  #cancel = document.getElementById("job-cancel");
  #bar = document.getElementById("job-bar");
  #phase = document.getElementById("job-phase");
  #state = document.getElementById("job-state");
  #result = document.getElementById("job-result");
  #upload = null;
  #run = new Run("job", {
    names: ["progress"],
    onEvent: (event) => this.#show(event),
    onEnd: (ended) => this.#end(ended),
    onLost: (isLost) => this.#say(isLost ? "Connection lost - retrying…" : ""),
  });

  constructor() {
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send(this.#form.elements.file.files[0]);
    });
    this.#cancel.addEventListener("click", () => this.#stop());
  }

  /** Go on with the job that was there before a reload, if there was one. */
  resume() {
    const remembered = this.#run.resume();
    if (remembered !== undefined) {
      this.#begin(`Counting ${remembered.name ?? ""}`);
    }
  }

  async #send(file) {
    if (!hasRoom()) {
      this.#say(renderProblem(TOO_MANY));
      return;
    }
    this.#begin(`Sending ${file.name}`);
    const started = performance.now();
    this.#upload = upload(`jobs?${new URLSearchParams({ name: file.name })}`, file, ({ loaded, total }) => {
      const seconds = (performance.now() - started) / 1000;
      this.#progress(loaded, total, seconds > 0 ? loaded / seconds : 0);
    });
    const { value, problem } = await this.#upload.answer;
    this.#upload = null;
    if (problem !== null) {
      this.#rest("Not sent");
      this.#say(renderProblem(problem));
      return;
    }
    if (value === null) {
      this.#rest("Cancelled");
      return;
    }
    this.#begin(`Counting ${file.name}`);
    this.#run.follow(value.run, { name: file.name });
  }

  async #stop() {
    this.#cancel.disabled = true;
    if (this.#upload !== null) {
      this.#upload.abort();
      return;
    }
    const problem = await this.#run.stop();
    if (problem !== null) {
      this.#cancel.disabled = !this.#run.isRunning;
      this.#say(renderProblem(problem));
    }
  }

  #begin(phase) {
    this.#start.disabled = true;
    this.#cancel.disabled = false;
    this.#result.replaceChildren();
    this.#say("");
    this.#phase.textContent = phase;
    // Without a value the bar says: it moves, nobody knows how far.
    this.#bar.removeAttribute("value");
    this.#bar.hidden = false;
  }

  #rest(phase) {
    this.#start.disabled = false;
    this.#cancel.disabled = true;
    this.#phase.textContent = phase;
    if (!this.#bar.hasAttribute("value")) {
      this.#bar.hidden = true;
    }
  }

  #show({ event, data }) {
    const value = parse(data);
    if (event === "progress" && typeof value?.n === "number") {
      this.#progress(value.n, value.total, value.rate, value.remaining);
    }
  }

  #progress(done, total, rate, remaining) {
    if (total > 0) {
      this.#bar.max = total;
      this.#bar.value = done;
    }
    const parts = [total > 0 ? `${inBytes(done)} of ${inBytes(total)}` : inBytes(done)];
    if (rate > 0) {
      parts.push(inBytes(rate, "/s"));
    }
    if (remaining > 0) {
      parts.push(`${inTime(remaining)} left`);
    }
    this.#say(parts.join(" · "));
  }

  #end({ last, problem }) {
    const words = describeEnd({ last, problem }, "Finished");
    this.#rest(words ?? "Not known");
    if (problem !== null) {
      this.#say(words === null ? renderProblem(problem) : "");
      return;
    }
    const { name, bytes, lines, sha256, message } = last.data;
    if (message) {
      this.#say(element("span", "bad", message));
    }
    const rows = [
      ["file", name],
      ["size", typeof bytes === "number" ? inBytes(bytes) : undefined],
      ["lines", typeof lines === "number" ? NUMBER.format(lines) : undefined],
      ["SHA-256", sha256],
    ];
    for (const [label, text] of rows.filter(([, text]) => text !== undefined)) {
      const row = element("div", "");
      row.append(element("dt", "", label), element("dd", "", text));
      this.#result.append(row);
    }
  }

  #say(what) {
    this.#state.replaceChildren(what);
  }
}
