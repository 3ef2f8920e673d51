// One run at a time of one kind: started elsewhere, listened to, stopped, and found again after a reload.

import { keep, recall } from "./memory.js";
import { request } from "./problem.js";
import { OwnStream } from "./stream.js";

const NOT_FOUND = 404;

export class Run {
  #kind;
  #handlers;
  #stream = null;
  #run = null;

  /**
   * @param {string} kind under which the tab remembers the run, and which the page's address may name: `?kind=RUN`
   * @param {import("./stream.js").Handlers} handlers
   */
  constructor(kind, handlers) {
    this.#kind = kind;
    this.#handlers = handlers;
  }

  get isRunning() {
    return this.#stream !== null;
  }

  /** The run that is listened to or was last; null if there was none. */
  get run() {
    return this.#run;
  }

  /** Listen to `run` from its beginning. `extra` is remembered with it. */
  follow(run, extra = {}) {
    keep(this.#kind, { ...extra, run });
    this.#run = run;
    this.#stream = new OwnStream(this.#path, {
      ...this.#handlers,
      onEnd: (ended) => {
        this.#stream = null;
        if (ended.problem?.status === NOT_FOUND) {
          keep(this.#kind, undefined);
        }
        this.#handlers.onEnd(ended);
      },
    });
  }

  /**
   * Listen again to what this tab remembers, or the address names. Returns what was remembered; undefined if there is
   * nothing, or if it is listened to already.
   */
  resume() {
    if (this.isRunning) {
      return undefined;
    }
    const named = new URLSearchParams(location.search).get(this.#kind);
    const remembered = recall(this.#kind) ?? (named ? { run: named } : undefined);
    if (typeof remembered?.run !== "string") {
      return undefined;
    }
    this.follow(remembered.run, remembered);
    return remembered;
  }

  /** Ask the server to stop it; its stream then ends. Returns what is wrong, or null. */
  async stop() {
    const { problem } = await request(`${this.#path}/stop`, { method: "POST" });
    return problem;
  }

  get #path() {
    return `runs/${encodeURIComponent(this.#run)}`;
  }
}

/** Return how a run ended, in words. `finished` are the words for the end that was hoped for. */
export function describeEnd({ last, problem }, finished) {
  if (problem !== null) {
    return problem.status === NOT_FOUND ? "The server does not know it, or not any more." : null;
  }
  if (last.event === "failed") {
    return FAILURES[last.data.reason] ?? "Failed";
  }
  return last.data.reason === "stopped" ? "Stopped" : finished;
}

const FAILURES = {
  interrupted: "Interrupted",
  abandoned: "Abandoned",
};
