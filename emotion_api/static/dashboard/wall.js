/** The wall: an unattended screen with all cameras, or one. It names no person, and all it needs is in the address. */

import { byId, setChildren, setText } from "./dom.js";
import { age, number, time } from "./format.js";
import { stateOf } from "./freshness.js";
import { newRow, ordered } from "./overview.js";

const MOST_TILES = 24;
const TURNED_EVERY = 15_000; // milliseconds

export function wallView({ router }) {
  const tiles = new Map();
  let order = [];
  document.body.dataset.wall = "";
  keepAwake();

  /** Shows what the store has of all cameras, or of the one that the address names. */
  function show(known, now) {
    const { overview, problem, view, answered } = known;
    const cameras = overview.cameras.filter((each) => ["overview", each.device_id].includes(view.wall));
    const ids = new Set(cameras.map((each) => each.device_id));
    order = [...new Set([...order, ...ordered(cameras, view.sort).map((each) => each.device_id)])].filter((id) => ids.has(id));
    const pages = Math.ceil(order.length / MOST_TILES);
    const page = Math.floor(now / TURNED_EVERY) % pages || 0;
    const shown = order.slice(page * MOST_TILES, (page + 1) * MOST_TILES);
    for (const each of cameras) tile(each.device_id).show(each, stateOf(each, known, now));
    setChildren(byId("wall-tiles"), shown.map((id) => tile(id).node));

    const wanted = Math.ceil(Math.sqrt((shown.length * innerWidth) / innerHeight / 1.4));
    const columns = Math.max(Math.min(wanted, shown.length), 1);
    byId("wall").style.setProperty("--columns", columns);
    byId("wall").style.setProperty("--rows", Math.max(Math.ceil(shown.length / columns), 1));

    const people = cameras.reduce((sum, each) => sum + each.now.people, 0);
    const line = problem ? `No answer for ${age((now - answered) / 1000)}` : `${number(people)} in view`;
    const none = view.wall === "overview" ? "No camera has sent anything yet" : `No camera ${view.wall} is known`;
    setText(byId("wall-title"), order.length ? line : none);
    byId("wall").classList.toggle("old", problem !== null);
    setText(byId("wall-note"), `${pages > 1 ? `${page + 1} of ${pages} · ` : ""}${time(problem ? answered : now)}`);
  }

  function tile(id) {
    if (!tiles.has(id)) tiles.set(id, newRow(id, router));
    return tiles.get(id);
  }

  return { show };
}

/** Keeps the screen on while the page is seen: a browser ends this whenever it is hidden. */
function keepAwake() {
  const ask = () => document.hidden || navigator.wakeLock?.request("screen").catch(() => {}); // on batteries it may refuse
  document.addEventListener("visibilitychange", ask);
  ask();
}
