/** A table whose rows are known by their key: what has not changed stays, with a selection in it. */

import { element, setChildren, setText } from "./dom.js";

export function table(head, body) {
  const rows = new Map();

  /** `titles` are the columns' names; each row has a `key` and its `cells`, of which the first is its heading. */
  return function show(titles, list) {
    setChildren(head, titles.map((title, place) => cell(head.children[place], title, "col")));
    const keys = new Set(list.map(({ key }) => key));
    for (const key of rows.keys()) if (!keys.has(key)) rows.delete(key);
    setChildren(body, list.map(row));
  };

  function row({ key, cells }) {
    if (!rows.has(key)) {
      const data = cells.slice(1).map(() => element("td"));
      rows.set(key, element("tr", {}, element("th", { scope: "row" }), ...data));
    }
    const node = rows.get(key);
    cells.forEach((text, place) => setText(node.children[place], text));
    return node;
  }
}

function cell(known, text, scope) {
  const node = known ?? element("th", { scope });
  setText(node, text);
  return node;
}
