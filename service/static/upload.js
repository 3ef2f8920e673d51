// One file to the server. By XMLHttpRequest: `fetch` does not say how much of a body has been sent.

import { NO_ANSWER, readAnswer } from "./problem.js";

/**
 * Send `file` as the body of a POST. Never throws.
 *
 * @param {string} path relative to the page
 * @param {File} file
 * @param {(sent: {loaded: number, total: number}) => void} onProgress in bytes
 * @returns {{answer: Promise<{value: any, problem: object | null}>, abort: () => void}} after `abort` both are null
 */
export function upload(path, file, onProgress) {
  const sending = new XMLHttpRequest();
  const answer = new Promise((resolve) => {
    sending.upload.addEventListener("progress", ({ loaded, total }) => onProgress({ loaded, total }));
    sending.addEventListener("load", () => resolve(readAnswer(sending.status, sending.statusText, sending.responseText)));
    sending.addEventListener("error", () => resolve({ value: null, problem: NO_ANSWER }));
    sending.addEventListener("abort", () => resolve({ value: null, problem: null }));
  });
  sending.open("POST", path);
  sending.setRequestHeader("Content-Type", "application/octet-stream");
  sending.send(file);
  return { answer, abort: () => sending.abort() };
}
