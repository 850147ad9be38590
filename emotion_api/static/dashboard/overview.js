/** The view of all cameras: how each is doing, how busy it is, and in which mood. Rows keep their places. */

import { isFound, roving } from "./cameras.js";
import { changeOf, dayBefore, moodOf, shareOf, total } from "./day.js";
import { byName } from "./devices.js";
import { byId, element, followed, setChildren, setText } from "./dom.js";
import { duration, number, plural, time, ZONE } from "./format.js";
import { clockIsWrong, offBy, stateOf } from "./freshness.js";
import { links } from "./period.js";
import { sparkline } from "./sparkline.js";
import { stackedBar } from "./totals.js";

const SORTS = { busiest: "Busiest", happiest: "Happiest", angriest: "Angriest", name: "Name" };

/** The emotion whose share a sort is about. */
const ABOUT = { happiest: "happy", angriest: "angry" };

const byShare = (emotion) => (a, b) => shareOf(b.today, emotion) - shareOf(a.today, emotion);

const ORDERS = {
  busiest: (a, b) => b.now.people - a.now.people || total(b.today) - total(a.today),
  happiest: byShare("happy"),
  angriest: byShare("angry"),
  name: () => 0,
};

/** The cameras in the order that the visitor has chosen. */
export function ordered(cameras, sort) {
  const order = ORDERS[sort] ?? ORDERS.busiest;
  return [...cameras].sort((a, b) => order(a, b) || byName(a, b));
}

export function overviewView({ router }) {
  const list = byId("overview-list");
  const tidy = roving(list);
  const rows = new Map();
  let order = [];
  let sortedBy = null;
  let shown = {};

  const sorts = links(router, byId("sorts"), SORTS, "sort");
  byId("sorts").addEventListener("click", sortAgain, true); // before its links follow
  byId("find").addEventListener("input", search);

  /** Shows what the store has of all cameras, at the time `now` by the server's clock. Returns a line about them. */
  function show(known, now) {
    shown = { known, now };
    const { overview, problem, view } = known;
    const states = new Map(overview.cameras.map((each) => [each.device_id, stateOf(each, known, now)]));
    sort(overview.cameras, view.sort);
    for (const each of overview.cameras) row(each.device_id).show(each, states.get(each.device_id), ABOUT[view.sort]);
    setChildren(list, order.map((id) => rows.get(id).node));
    search();
    const live = [...states.values()].filter((state) => (state.was ?? state.kind) === "live").length;
    const people = overview.cameras.reduce((sum, each) => sum + each.now.people, 0);
    const count = `${number(live)} of ${plural(overview.cameras.length, "camera", "cameras")} live`;
    const line = problem ? "Not known while the API does not answer" : `${count}, ${number(people)} in view`;
    setText(byId("overview-count"), line);
    const until = time(Date.parse(overview.until));
    const compared = `Today until ${until} is compared with ${dayBefore(overview)} until ${until}`;
    setText(byId("overview-note"), `${compared}, by the clocks of ${ZONE}. The bars are the last 24 hours.`);
    return count;
  }

  /** Sorts once. Afterwards places stay: a new camera comes last. */
  function sort(cameras, by) {
    const known = new Set(cameras.map((each) => each.device_id));
    if (by !== sortedBy) {
      order = ordered(cameras, by).map((each) => each.device_id);
      sorts(by);
    } else {
      const placed = new Set(order);
      const others = cameras.map((each) => each.device_id).filter((id) => !placed.has(id));
      order = [...order.filter((id) => known.has(id)), ...others];
    }
    sortedBy = by;
    for (const id of rows.keys()) if (!known.has(id)) rows.delete(id);
  }

  function row(id) {
    if (!rows.has(id)) rows.set(id, newRow(id, router));
    return rows.get(id);
  }

  function search() {
    const text = byId("find").value;
    const cameras = shown.known.overview.cameras;
    let found = 0;
    for (const each of cameras) {
      const isShown = isFound(each, text);
      rows.get(each.device_id).node.hidden = !isShown;
      if (isShown) found += 1;
    }
    setText(byId("found"), text.trim() ? `${plural(found, "camera", "cameras")} found` : "");
    tidy();
  }

  /** The same sort once more sorts anew. */
  function sortAgain() {
    clear();
    show(shown.known, shown.now);
  }

  /** Forgets the order: a visitor who comes back sees the cameras sorted anew. */
  function clear() {
    sortedBy = null;
  }

  return { show, clear };
}

/** A row about the camera `id`, which leads to its view. */
export function newRow(id, router) {
  const name = element("bdi", { class: "name" });
  const idNote = element("bdi", { class: "id" });
  const detail = element("span", { class: "detail" });
  const people = element("b");
  const mood = element("span");
  const bar = element("span", { class: "bar", "aria-hidden": "true" });
  const today = element("b");
  const change = element("span", { class: "change" });
  const day = sparkline();
  const stacked = stackedBar(bar);
  const link = element(
    "a",
    { href: router.address({ device: id }), tabindex: "-1" },
    element("span", { class: "state-mark", "aria-hidden": "true" }),
    element("span", { class: "who" }, name, " ", idNote, " ", detail),
    element("span", { class: "count" }, people, " in view"),
    element("span", { class: "mood-today" }, bar, mood),
    element("span", { class: "today" }, today, " today ", change),
    day.node,
  );
  followed(link, () => router.go({ device: id }));
  let last = [];
  return {
    node: element("li", {}, link),
    show(each, state, about) {
      setText(detail, brief(each, state));
      if (link.dataset.state !== state.kind) link.dataset.state = state.kind;
      if (each === last[0] && about === last[1]) return;
      last = [each, about];
      setText(name, each.device_name);
      setText(idNote, each.device_name === id ? "" : id);
      setText(people, number(each.now.people));
      const { text, isSmall } = moodOf(each.today, about);
      setText(mood, text);
      mood.classList.toggle("pale", isSmall);
      stacked.set(each.today.seconds);
      setText(today, duration(total(each.today)));
      const changed = changeOf(each);
      setText(change, changed.text);
      change.classList.toggle("pale", changed.isSmall);
      day.set(each.hours);
    },
  };
}

/** A camera's state in a few words, which change each minute at most. */
function brief(each, state) {
  const clock = clockIsWrong(each, state) ? `, clock ${offBy(each.clock_skew)}` : "";
  if (state.kind === "live") return `Live${clock}`;
  if (state.kind === "waiting") return "Never sent a batch";
  if (state.kind === "unknown") return "Not known";
  return `${state.word}${state.received ? ` for ${coarse(state.detail)}` : ""}${clock}`;
}

/** "silent for 14 min, since …" becomes "14 min"; seconds are left out. */
function coarse(detail) {
  const [, age] = /for ([^,]*)/.exec(detail) ?? [];
  return /^\d+ s$/.test(age) ? "less than a minute" : age;
}
