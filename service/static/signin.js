// A token for a session: asked for when the server refuses something for lack of one.

import { inWords, onUnauthenticated, request } from "./problem.js";

export class SignInPanel {
  #form = document.getElementById("sign-in");
  #answer = document.getElementById("sign-in-answer");
  #out = document.getElementById("sign-out");
  #onSignedIn;

  /** @param {() => void} onSignedIn is called with each new session */
  constructor(onSignedIn) {
    this.#onSignedIn = onSignedIn;
    onUnauthenticated(() => this.#show());
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#signIn();
    });
    this.#out.addEventListener("click", () => this.#signOut());
    this.#ask();
  }

  /** Ask who this browser is signed in as. */
  async #ask() {
    const { value } = await request("session");
    if (typeof value?.subject === "string") {
      this.#showSubject(value.subject);
    }
  }

  #showSubject(subject) {
    this.#out.textContent = `Sign out ${subject}`;
    this.#out.hidden = false;
  }

  #show() {
    if (this.#form.hidden) {
      this.#out.hidden = true;
      this.#answer.textContent = "";
      this.#form.hidden = false;
      this.#form.elements.token.focus();
    }
  }

  async #signIn() {
    const { token } = this.#form.elements;
    const { value, problem } = await request("session", { method: "POST", json: { token: token.value } });
    if (problem !== null) {
      this.#answer.textContent = inWords(problem);
      token.select();
      return;
    }
    // The cookie is the session from now on; the page does not keep the token, and no script can read the cookie.
    token.value = "";
    this.#form.hidden = true;
    this.#showSubject(value.subject);
    this.#onSignedIn();
  }

  async #signOut() {
    const { problem } = await request("session", { method: "DELETE" });
    if (problem === null) {
      // What is open stays open until it is asked for again, so all of it is.
      location.reload();
    }
  }
}
