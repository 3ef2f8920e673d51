// A language model's answer, token by token. It is a run: a reload goes on with the same answer.

import { element, parse } from "./list.js";
import { renderProblem, request } from "./problem.js";
import { Run, describeEnd } from "./run.js";
import { TOO_MANY, hasRoom } from "./stream.js";

const FIELDS = ["prompt", "provider", "model"];
const NUMBER = new Intl.NumberFormat();

export class GeneratePanel {
  #form = document.getElementById("generate-form");
  #start = document.getElementById("generate-start");
  #stop = document.getElementById("generate-stop");
  #state = document.getElementById("generate-state");
  #answer = document.getElementById("generate-answer");
  #link = document.getElementById("generate-link");
  #text = document.createTextNode("");
  #tokens = 0;
  #model = "";
  #run = new Run("generate", {
    names: ["started"],
    onEvent: (event) => this.#show(event),
    onEnd: (ended) => this.#end(ended),
    onLost: (isLost) => this.#say(isLost ? "Connection lost - retrying…" : this.#progress()),
  });

  constructor() {
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#generate();
    });
    this.#form.elements.prompt.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        this.#form.requestSubmit(this.#start);
      }
    });
    this.#stop.addEventListener("click", () => this.#ask());
  }

  /** Go on with the answer that was there before a reload, if there was one. */
  resume() {
    const remembered = this.#run.resume();
    if (remembered === undefined) {
      return;
    }
    for (const name of FIELDS) {
      if (typeof remembered[name] === "string") {
        this.#form.elements[name].value = remembered[name];
      }
    }
    this.#begin();
  }

  async #generate() {
    if (!hasRoom()) {
      this.#say(renderProblem(TOO_MANY));
      return;
    }
    // Two at once would be one too many: the button is free again when this one is known to have failed, or has ended.
    this.#start.disabled = true;
    this.#say("Asking …");
    const asked = {};
    for (const name of FIELDS) {
      const { value } = this.#form.elements[name];
      // What is not said is the server's choice, but for the prompt.
      if (value || name === "prompt") {
        asked[name] = value;
      }
    }
    const { value, problem } = await request("generate", { method: "POST", json: asked });
    if (problem !== null) {
      this.#start.disabled = false;
      this.#say(renderProblem(problem));
      return;
    }
    this.#run.follow(value.run, asked);
    this.#begin();
  }

  #begin() {
    this.#start.disabled = true;
    this.#stop.disabled = false;
    this.#tokens = 0;
    this.#model = "";
    this.#text = document.createTextNode("");
    this.#answer.replaceChildren(this.#text);
    // Read aloud when it is complete, and not from its beginning with each token.
    this.#answer.setAttribute("aria-busy", "true");
    this.#link.href = `?${new URLSearchParams({ generate: this.#run.run })}#generate`;
    this.#link.hidden = false;
    this.#say("Waiting for the first token …");
  }

  #show({ event, data }) {
    const value = parse(data);
    if (event === "started") {
      this.#model = [...new Set([value?.provider, value?.model])].filter(Boolean).join(" · ");
    } else if (event === "gap") {
      this.#answer.append(element("span", "gap", " [a part of the answer is missing here] "), (this.#text = document.createTextNode("")));
    } else if (typeof value?.token === "string") {
      const atEnd = this.#answer.scrollHeight - this.#answer.scrollTop - this.#answer.clientHeight < 8;
      this.#text.appendData(value.token);
      this.#tokens += 1;
      if (atEnd) {
        this.#answer.scrollTop = this.#answer.scrollHeight;
      }
    }
    this.#say(this.#progress());
  }

  #end({ last, problem }) {
    this.#start.disabled = false;
    this.#stop.disabled = true;
    this.#answer.setAttribute("aria-busy", "false");
    const words = describeEnd({ last, problem }, "Finished");
    if (problem !== null) {
      this.#link.hidden = true;
      this.#say(words ?? renderProblem(problem));
      return;
    }
    const { message, finish_reason: reason, usage } = last.data;
    const parts = [reason ? `${words} (${reason})` : words, ...(message ? [message] : []), ...describeUsage(usage)];
    if (this.#model) {
      parts.push(this.#model);
    }
    this.#say(last.event === "failed" ? element("span", "bad", parts.join(" · ")) : parts.join(" · "));
  }

  async #ask() {
    this.#stop.disabled = true;
    const problem = await this.#run.stop();
    if (problem !== null) {
      this.#stop.disabled = !this.#run.isRunning;
      this.#say(renderProblem(problem));
    }
  }

  #progress() {
    return [this.#model, `${NUMBER.format(this.#tokens)} tokens so far`].filter(Boolean).join(" · ");
  }

  #say(what) {
    this.#state.replaceChildren(what);
  }
}

function describeUsage(usage) {
  const { input_tokens: read, output_tokens: written } = usage ?? {};
  const parts = [];
  if (typeof read === "number") {
    parts.push(`${NUMBER.format(read)} tokens in`);
  }
  if (typeof written === "number") {
    parts.push(`${NUMBER.format(written)} out`);
  }
  return parts.length > 0 ? [parts.join(", ")] : [];
}
