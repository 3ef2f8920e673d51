// What outlives a reload: a few values of this tab, and of this browser. A browser that keeps nothing is no error.

/** Return what this tab has kept under `name`; undefined if nothing. */
export function recall(name, storage = "sessionStorage") {
  try {
    return JSON.parse(window[storage].getItem(`sse-kit.${name}`)) ?? undefined;
  } catch {
    return undefined;
  }
}

/** Keep `value` under `name` for this tab; undefined forgets it. */
export function keep(name, value, storage = "sessionStorage") {
  try {
    if (value === undefined) {
      window[storage].removeItem(`sse-kit.${name}`);
    } else {
      window[storage].setItem(`sse-kit.${name}`, JSON.stringify(value));
    }
  } catch {
    // Storage is full, or switched off: then a reload begins anew.
  }
}
