// What a server says when it refuses: problem documents (RFC 9457), asked for, read and shown.

import { element, parse } from "./list.js";

const MEDIA_TYPE = "application/problem+json";

export const NO_ANSWER = {
  status: 0,
  title: "No answer",
  detail: "The server was not reached, or the answer was lost on its way.",
};

/**
 * Send one request and read its answer. Never throws: without an answer `problem` is `NO_ANSWER`.
 *
 * @param {string} path relative to the page
 * @param {RequestInit} options of `fetch`; `json`, if given, becomes the body
 * @returns {Promise<{value: any, problem: object | null}>} the answer's JSON, or what is wrong
 */
export async function request(path, { json, ...options } = {}) {
  if (json !== undefined) {
    options.body = JSON.stringify(json);
    options.headers = { ...options.headers, "Content-Type": "application/json" };
  }
  try {
    const answer = await fetch(path, { cache: "no-store", ...options });
    return readAnswer(answer.status, answer.statusText, await answer.text());
  } catch {
    return { value: null, problem: NO_ANSWER };
  }
}

/** Read a whole answer: its JSON, or what is wrong. */
export function readAnswer(status, statusText, text) {
  const value = parse(text);
  if (status >= 200 && status < 300) {
    return { value, problem: null };
  }
  const said = typeof value === "object" && value !== null ? value : {};
  return { value: null, problem: tell({ title: statusText || "Refused", ...said, status }) };
}

/** Ask a stream's address once more why it has ended, since an EventSource keeps the server's reason to itself. */
export async function askWhy(url) {
  const abort = new AbortController();
  try {
    const answer = await fetch(url, {
      headers: { Accept: "text/event-stream" },
      cache: "no-store",
      signal: abort.signal,
    });
    return (answer.headers.get("Content-Type") ?? "").startsWith(MEDIA_TYPE)
      ? tell(await answer.json())
      : { status: answer.status, title: answer.ok ? "The stream was ended by the server" : answer.statusText };
  } catch {
    return { title: "The server does not answer" };
  } finally {
    // The answer may be a stream, which would go on for ever.
    abort.abort();
  }
}

/** Return a problem in one line. */
export function inWords({ status, title, detail }) {
  return [[status, title].filter(Boolean).join(" "), detail].filter(Boolean).join(": ");
}

/** Return a problem as a box with all that it says. */
export function renderProblem({ status, title = "Refused", detail = "", type: _, ...members }) {
  const made = element("div", "problem");
  made.append(element("strong", "", status ? `${status} ${title}` : title));
  if (detail) {
    made.append(element("p", "", detail));
  }
  for (const [name, value] of Object.entries(members)) {
    made.append(element("p", "hint", `${name}: ${typeof value === "string" ? value : JSON.stringify(value)}`));
  }
  return made;
}

const listeners = new Set();

/** Call `listener` with each problem whose status is 401, whatever part of the page was refused. */
export function onUnauthenticated(listener) {
  listeners.add(listener);
}

function tell(problem) {
  if (problem.status === 401) {
    for (const listener of listeners) {
      listener(problem);
    }
  }
  return problem;
}
