// The form that publishes, and what the server answered to it.

import { element, parse } from "./list.js";
import { renderProblem, request } from "./problem.js";

export class PublishPanel {
  #form = document.getElementById("publish-form");
  #answer = document.getElementById("answer");
  #path;
  #topics;
  #onName;

  /**
   * @param {string} path to publish to, relative to the page
   * @param {{topics: string[], onName: (name: string) => void}} options `topics` are those that the page listens to;
   *   `onName` is told each event name before it is used
   */
  constructor(path, { topics, onName }) {
    this.#path = path;
    this.#topics = topics;
    this.#onName = onName;
    this.#form.elements.topic.value = topics[0];
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#publish();
    });
    this.#form.elements.data.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        this.#publish();
      }
    });
    this.#form.elements.data.addEventListener("input", () => this.#form.elements.data.setCustomValidity(""));
  }

  async #publish() {
    const body = this.#body();
    if (body === null) {
      return;
    }
    const topic = this.#form.elements.topic.value;
    const name = this.#form.elements.event.value;
    if (name) {
      this.#onName(name);
    }
    this.#answer.replaceChildren("Publishing …");
    const { value, problem } = await request(this.#path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body,
    });
    this.#answer.replaceChildren(problem === null ? this.#renderReceipt(value, topic) : renderProblem(problem));
  }

  #renderReceipt(receipt, topic) {
    const made = element("div", "receipt");
    made.append(element("strong", "", "Published as "), element("code", "", receipt.id));
    if (!this.#topics.includes(topic)) {
      const link = element("a", "", "listen to it");
      link.href = `?${new URLSearchParams({ topic })}`;
      const hint = element("p", "hint", "This page does not listen to that topic: ");
      hint.append(link);
      made.append(hint);
    }
    return made;
  }

  /** Return the request's body, or null after telling what is wrong with the form. */
  #body() {
    const { topic, event, kind, data } = this.#form.elements;
    const fields = { topic: topic.value, ...(event.value && { event: event.value }) };
    if (kind.value === "text") {
      return JSON.stringify({ ...fields, data: data.value });
    }
    if (parse(data.value) === undefined) {
      data.setCustomValidity("This is no JSON.");
      data.reportValidity();
      return null;
    }
    // As it was typed: parsed and written again, a number with many digits would be another one.
    return `${JSON.stringify(fields).slice(0, -1)},"data":${data.value}}`;
  }
}
