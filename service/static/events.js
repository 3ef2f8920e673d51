// Every event that is not the server's own, as it came.

import { BoundedList, element, timeOfDay } from "./list.js";

const MOST_CHARACTERS = 4000;

export class EventsPanel {
  #list = new BoundedList(document.getElementById("events-list"), renderEvent);
  #count = document.getElementById("events-count");
  #heard = document.getElementById("events-heard");
  #total = 0;

  /** Show one event; `topic` is null where the page cannot know it, since the wire does not carry it. */
  show(event) {
    this.#total += 1;
    this.#count.textContent = String(this.#total);
    this.#list.append(event);
  }

  /** Show that events are missing at this place of the list. */
  showGap(text, at) {
    this.#list.append({ gap: text, at });
  }

  /** Say what is listened to: an event of another name arrives, but no browser passes it on. */
  explain(topics, names) {
    this.#heard.textContent = `Topic ${topics.join(", ")}; events named ${names.join(", ")}.`;
  }
}

function renderEvent({ id, event, topic, data, at, gap }) {
  if (gap) {
    const item = element("li", "gap");
    item.append(element("time", "", timeOfDay(at)), " ", gap);
    return item;
  }
  const item = element("li", "event");
  const head = element("div", "head");
  // An id begins with the moment of its publication, which for a replayed event is not now.
  head.append(element("time", "", timeOfDay(Number.parseInt(id, 10) || at)), element("span", "name", event));
  if (topic !== null) {
    head.append(element("span", "topic", topic));
  }
  head.append(element("span", "id", id));
  const shown = data.length > MOST_CHARACTERS ? `${data.slice(0, MOST_CHARACTERS)} … (${data.length} characters)` : data;
  item.append(head, element("pre", "", shown));
  return item;
}
