// A list that shows the newest entries of something endless.

// More than anybody reads; each entry costs the browser memory and layout.
export const MOST_ENTRIES = 500;

export class BoundedList {
  #element;
  #render;
  #waiting = [];
  #scheduled = false;

  /**
   * @param {HTMLElement} element an empty list, which scrolls
   * @param {(entry: object) => HTMLElement} render makes the item of an entry
   */
  constructor(element, render) {
    this.#element = element;
    this.#render = render;
  }

  /** Show `entry` at the end, with the next frame: a burst of events costs one layout. */
  append(entry) {
    this.#waiting.push(entry);
    if (this.#waiting.length > MOST_ENTRIES) {
      // A page in the background gets no frames; what would scroll out unseen is not kept for it.
      this.#waiting.shift();
    }
    if (!this.#scheduled) {
      this.#scheduled = true;
      requestAnimationFrame(() => this.#show());
    }
  }

  #show() {
    this.#scheduled = false;
    const list = this.#element;
    // Whoever has scrolled up is reading there.
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 8;
    list.append(...this.#waiting.map(this.#render));
    this.#waiting = [];
    while (list.childElementCount > MOST_ENTRIES) {
      list.firstElementChild.remove();
    }
    if (atEnd) {
      list.scrollTop = list.scrollHeight;
    }
  }
}

/** Make an element with text: never markup, whatever an event contains. */
export function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) {
    made.className = className;
  }
  if (text !== undefined) {
    made.textContent = text;
  }
  return made;
}

const TIME = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });

/** Return the local time of day of `moment` (a Date, or milliseconds), or an empty text if it is no moment. */
export function timeOfDay(moment) {
  const date = new Date(moment);
  return Number.isNaN(date.getTime()) ? "" : TIME.format(date);
}

/** Parse JSON; undefined for what is none. */
export function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
