/** The controls of the history: range, view, comparison and download. All but the download are in the address. */

import { byId, element, followed, setChildren } from "./dom.js";
import { isolated } from "./format.js";
import { daysIn, daysOf, rangeOf, shifted } from "./range.js";

const RANGES = { today: "Today", yesterday: "Yesterday", "7d": "7 days", "28d": "28 days" };
const VIEWS = { "": "Time", share: "100 %", people: "People" };

/** `download` is called with the parameters of the shown history; it throws an ApiError if it fails. */
export function period({ router, download }) {
  const ranges = links(router, byId("ranges"), RANGES, "range");
  const views = links(router, byId("views"), VIEWS, "view");
  const ways = { earlier: -1, later: 1 };
  const compare = byId("compare");
  const options = new Map();
  let days;
  let today;

  for (const [id, way] of Object.entries(ways)) {
    byId(id).addEventListener("click", () => move(way * daysIn(days)));
  }
  for (const id of ["from", "to"]) byId(id).addEventListener("change", () => custom(id));
  compare.addEventListener("change", () => router.go({ compare: compare.value }));
  byId("csv").addEventListener("click", download);

  function move(count) {
    const untilToday = daysIn({ from: days.to, to: today }) - 1;
    router.go({ range: rangeOf(shifted(days, Math.min(count, untilToday)), today) });
  }

  function custom(changed) {
    let [from, to] = [byId("from").value, byId("to").value];
    if (!from || !to) return;
    if (from > to) [from, to] = changed === "from" ? [from, from] : [to, to];
    router.go({ range: rangeOf({ from, to }, today) });
  }

  function option([id, name]) {
    if (!options.has(id)) options.set(id, element("option", { value: id }));
    options.get(id).textContent = isolated(name);
    return options.get(id);
  }

  /** `cameras`: pairs of an id and a name to compare with. */
  return function show(view, day, cameras) {
    today = day;
    days = daysOf(view.range, today);
    ranges(rangeOf(days, today));
    views(view.view);
    byId("later").disabled = days.to >= today;
    for (const [id, value] of Object.entries(days)) {
      byId(id).max = today;
      if (document.activeElement !== byId(id)) byId(id).value = value;
    }
    const known = new Set(["", "week", ...cameras.map(([id]) => id)]);
    const unknown = known.has(view.compare) ? [] : [[view.compare, view.compare]];
    setChildren(compare, [["", "nothing"], ["week", "the week before"], ...cameras, ...unknown].map(option));
    compare.value = view.compare;
  };
}

/** Links in `place` to the values of a `part` of the view. Returns a function that marks the chosen one. */
export function links(router, place, names, part) {
  const nodes = Object.entries(names).map(([value, name]) => [value, element("a", {}, name)]);
  for (const [value, node] of nodes) {
    followed(node, () => router.go({ [part]: value }));
  }
  place.append(...nodes.map(([, node]) => node));
  return function show(chosen) {
    for (const [value, node] of nodes) {
      node.setAttribute("href", router.address({ [part]: value }));
      if (value === chosen) node.setAttribute("aria-current", "true");
      else node.removeAttribute("aria-current");
    }
  };
}
