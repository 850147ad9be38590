/** All cameras: the picker, and a list that tells how each of them is doing. */

import { roving } from "./cameras.js";
import { byId, element, followed, setChildren, setText } from "./dom.js";
import { stateOf } from "./freshness.js";
import { inOrder, isolated, number, plural } from "./format.js";

/** For sorting: by name, then by id, and what ends in 2 before what ends in 10. */
export function byName(a, b) {
  return inOrder(a.device_name, b.device_name) || inOrder(a.device_id, b.device_id);
}

/** A camera's name for a line of text, with its id if another one has the same name. */
export function shownName({ device_id: id, device_name: name }, { devices }) {
  const isShared = devices.some((each) => each.device_name === name && each.device_id !== id);
  return isolated(isShared ? `${name} (${id})` : name);
}

/** `choose` is called with the id of the camera that the visitor picks. */
export function deviceList(choose) {
  const picker = byId("picker");
  const options = new Map();
  const rows = new Map();
  const tidy = roving(byId("all-list"));
  let scrolledTo;
  picker.addEventListener("change", () => choose(picker.value));

  /** Shows what the store has of all cameras, at the time `now` by the server's clock. Returns how many are live. */
  function show(known, now) {
    const chosen = known.camera.device; // perhaps a camera that the API does not know
    const devices = [...known.devices.devices].sort(byName);
    const isKnown = devices.some((each) => each.device_id === chosen);
    const unknown = chosen && !isKnown ? [{ device_id: chosen, device_name: `${chosen} (never heard)` }] : [];
    const all = devices.length > 1 ? [{ device_id: "", device_name: "All cameras" }] : [];
    setChildren(picker, [...all, ...unknown, ...devices].map((each) => option(each, known, now)));
    byId("pick").hidden = picker.options.length === 0;
    picker.value = chosen;

    const states = devices.map((each) => stateOf(each, known, now));
    byId("all").hidden = devices.length + unknown.length < 2;
    const isLive = states.map((state) => (state.was ?? state.kind) === "live");
    const live = isLive.filter(Boolean).length;
    const count = `${number(live)} of ${plural(devices.length, "camera", "cameras")} live`;
    setText(byId("all-count"), known.problem ? "Not known while the API does not answer" : count);
    const shared = namesOfSeveral(devices);
    const nodes = devices.map((each, place) => row(each, states[place], chosen, shared.has(each.device_name)));
    const first = nodes.filter((_, place) => !isLive[place]);
    setChildren(byId("all-list"), [...first, ...nodes.filter((_, place) => isLive[place])]);
    tidy();
    if (isKnown && chosen !== scrolledTo && scrollTo(rows.get(chosen).node)) scrolledTo = chosen;
    return live;
  }

  function option(each, known, now) {
    const { device_id: id, device_name: name } = each;
    if (!options.has(id)) options.set(id, element("option", { value: id }));
    const isPlain = !id || name === id || name.startsWith(`${id} `);
    const state = "received_at" in each ? `: ${stateOf(each, known, now).word.toLowerCase()}` : "";
    setText(options.get(id), `${isolated(isPlain ? name : `${name} (${id})`)}${state}`);
    return options.get(id);
  }

  function row(each, state, chosen, isShared) {
    const id = each.device_id;
    if (!rows.has(id)) rows.set(id, newLink(id, choose));
    rows.get(id).show(each, state, id === chosen, isShared);
    return rows.get(id).node;
  }

  return { show };
}

/** Scrolls its list until `row` is seen, but not the page. Returns whether it could. */
function scrollTo(row) {
  const list = row.parentElement;
  if (!list.clientHeight) return false;
  const [seen, box] = [list, row].map((each) => each.getBoundingClientRect());
  list.scrollTop += Math.min(0, box.top - seen.top) + Math.max(0, box.bottom - seen.bottom);
  return true;
}

function newLink(id, choose) {
  const name = element("bdi", { class: "name" });
  const note = element("bdi", { class: "id" });
  const detail = element("span", { class: "detail" });
  const mark = element("span", { class: "state-mark", "aria-hidden": "true" });
  const href = `?${new URLSearchParams({ device: id })}`;
  const link = element("a", { href, tabindex: "-1" }, mark, element("span", {}, name, " ", note), detail);
  followed(link, () => choose(id));
  return {
    node: element("li", {}, link),
    show(each, state, isChosen, isShared) {
      setText(name, each.device_name);
      setText(note, isShared ? id : "");
      setText(detail, shortDetail(each, state));
      link.dataset.state = state.kind;
      if (isChosen) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    },
  };
}

/** The names that more than one camera has. */
function namesOfSeveral(devices) {
  const seen = new Set();
  const several = new Set();
  for (const { device_name: name } of devices) (seen.has(name) ? several : seen).add(name);
  return several;
}

/** A camera's state in a few words; how long it is silent, but not each second that a live one counts. */
function shortDetail(each, state) {
  const people = each.people_now ? plural(each.people_now, "person", "people") : "no one in view";
  if (state.kind === "live") return `live, ${people}`;
  if (state.kind === "waiting") return state.detail;
  if (state.kind === "unknown") return state.detail || "not known";
  return state.detail.replace(/, since .*/, "").replace("silent", state.word.toLowerCase());
}
