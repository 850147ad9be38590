/** Places for cards: a card keeps its place until it goes, and a newcomer takes a free one. */

import { element, setChildren } from "./dom.js";

export function places(list) {
  let taken = []; // a key, or null for a free place

  /** Shows the cards of `keys`, at most so many. `cardOf` makes a card's node. Returns how many are shown. */
  return function show(keys, most, cardOf) {
    const wanted = new Set(keys);
    taken = taken.map((key) => (wanted.has(key) ? key : null)).slice(0, most);
    const placed = new Set(taken);
    for (const key of keys) {
      if (placed.has(key)) continue;
      const free = taken.indexOf(null);
      if (free < 0 && taken.length >= most) break;
      taken[free < 0 ? taken.length : free] = key;
    }
    while (taken.length && taken.at(-1) === null) taken.pop();
    const spare = [...list.querySelectorAll(".free")];
    const nodes = taken.map((key) =>
      key === null ? (spare.pop() ?? element("li", { class: "free", "aria-hidden": "true" })) : cardOf(key),
    );
    setChildren(list, nodes);
    return taken.filter((key) => key !== null).length;
  };
}
