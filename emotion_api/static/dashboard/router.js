/** The address of the page says which view is shown: this module reads it, writes it, and follows the way back. */

/** The parts of a view in the address, with their defaults. A part that has its default stays out of the address. */
const DEFAULTS = { device: "", wall: "", sort: "busiest", range: "today", view: "", compare: "", week: "" };

/** The view that the query string of an address names. */
export function viewOf(search) {
  const given = new URLSearchParams(search);
  if (!given.has("device")) given.set("device", given.get("device_id") ?? ""); // the API's name, too
  if (given.get("wall")) given.delete("device"); // a wall shows what its own part names
  return Object.fromEntries(Object.entries(DEFAULTS).map(([name, value]) => [name, given.get(name) ?? value]));
}

/** The query string of a view. */
export function addressOf(view) {
  const parts = Object.entries(DEFAULTS).filter(([name, value]) => view[name] !== value);
  return `?${new URLSearchParams(parts.map(([name]) => [name, view[name]]))}`;
}

/** Calls `follow` with each new view: after `go`, and when the visitor goes back or forward. */
export function createRouter(follow) {
  let view = viewOf(location.search);

  function turn(next) {
    if (addressOf(next) === addressOf(view)) return false; // a popstate may also be that of the skip link
    view = next;
    return true;
  }

  addEventListener("popstate", () => turn(viewOf(location.search)) && follow(view));
  return {
    get: () => view,
    /** Changes parts of the view. `replaces`: the way back does not lead to the view of before. */
    go(changes, { replaces = false } = {}) {
      if (!turn({ ...view, ...changes })) return;
      history[replaces ? "replaceState" : "pushState"](null, "", addressOf(view));
      follow(view);
    },
    /** The address of the view with some parts changed. */
    address: (changes) => addressOf({ ...view, ...changes }),
  };
}
