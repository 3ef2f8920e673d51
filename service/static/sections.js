// Sections of the page that open and close: on a phone all of them at once would be many screens.

import { keep, recall } from "./memory.js";

const NARROW = "(max-width: 52rem)";
const OPEN_WHEN_NARROW = ["publish", "events"];

/** Give the heading of each section in `root` a button that opens and closes it. */
export function makeCollapsible(root) {
  const sections = [...root.querySelectorAll(":scope > section")];
  const isNarrow = matchMedia(NARROW).matches;
  const closed = new Set(
    recall("closed", "localStorage") ??
      (isNarrow ? sections.map(({ id }) => id).filter((id) => !OPEN_WHEN_NARROW.includes(id)) : []),
  );

  function become(section, isOpen) {
    section.toggleAttribute("data-closed", !isOpen);
    section.querySelector("h2 > button").setAttribute("aria-expanded", String(isOpen));
    if (isOpen) {
      // What came meanwhile scrolled nothing.
      for (const list of section.querySelectorAll(".list")) {
        list.scrollTop = list.scrollHeight;
      }
    }
  }

  function openNamed() {
    const section = sections.find(({ id }) => `#${id}` === location.hash);
    if (section !== undefined) {
      become(section, true);
      section.scrollIntoView();
    }
  }

  for (const section of sections) {
    const heading = section.querySelector("h2");
    const button = document.createElement("button");
    button.type = "button";
    // The title alone: what is counted beside it is no part of the button's name.
    button.append(heading.firstChild);
    heading.prepend(button);
    become(section, !closed.has(section.id));
    button.addEventListener("click", () => {
      const isOpen = section.hasAttribute("data-closed");
      become(section, isOpen);
      closed[isOpen ? "delete" : "add"](section.id);
      keep("closed", [...closed], "localStorage");
    });
  }
  addEventListener("hashchange", openNamed);
  openNamed();
}
