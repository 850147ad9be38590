/** All cameras: the picker, and a list that tells how each of them is doing. */

import { byId, element, setChildren, setText } from "./dom.js";
import { freshness, notKnown } from "./freshness.js";
import { plural } from "./format.js";

/** `choose` is called with the id of the camera that somebody picks. */
export function deviceList(choose) {
  const picker = byId("picker");
  const options = new Map();
  const rows = new Map();
  picker.addEventListener("change", () => choose(picker.value));

  /**
   * `chosen` may be a camera that nobody has heard of; `heard`: when this page saw something new of it. `now` by the
   * server's clock; `isOutdated` while the API does not answer.
   */
  function show({ devices, silent_after: silentAfter }, chosen, { heard, now, isOutdated }) {
    const isKnown = devices.some((each) => each.device_id === chosen);
    const unknown = chosen && !isKnown ? [{ device_id: chosen, device_name: `${chosen} (never heard)` }] : [];
    setChildren(picker, [...unknown, ...devices].map(option));
    byId("pick").hidden = picker.options.length === 0;
    if (chosen) picker.value = chosen;

    const states = devices.map((each) => {
      const state = freshness(each, { heard: each.device_id === chosen ? heard : 0, now, silentAfter });
      return isOutdated ? notKnown(state, now) : state;
    });
    byId("all").hidden = devices.length + unknown.length < 2;
    const live = states.filter((state) => state.kind === "live").length;
    const count = `${live.toLocaleString("en")} of ${plural(devices.length, "camera", "cameras")} live`;
    setText(byId("all-count"), isOutdated ? "Not known while the API does not answer" : count);
    setChildren(byId("all-list"), devices.map((each, place) => row(each, states[place], chosen)));
  }

  function option(each) {
    const { device_id: id, device_name: name } = each;
    if (!options.has(id)) options.set(id, element("option", { value: id }));
    setText(options.get(id), name === id || name.startsWith(`${id} `) ? name : `${name} (${id})`);
    return options.get(id);
  }

  function row(each, state, chosen) {
    const id = each.device_id;
    if (!rows.has(id)) rows.set(id, newRow(id, choose));
    rows.get(id).show(each, state, id === chosen);
    return rows.get(id).node;
  }

  return { show };
}

function newRow(id, choose) {
  const name = element("span", { class: "name" });
  const detail = element("span", { class: "detail" });
  const mark = element("span", { class: "state-mark", "aria-hidden": "true" });
  const link = element("a", { href: `?${new URLSearchParams({ device: id })}` }, mark, name, detail);
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    choose(id);
  });
  return {
    node: element("li", {}, link),
    show(each, state, isChosen) {
      setText(name, each.device_name);
      setText(detail, brief(each, state));
      link.dataset.state = state.kind;
      if (isChosen) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    },
  };
}

/** A camera's state in a few words; how long it is silent, but not each second that a live one counts. */
function brief(each, state) {
  const people = each.people_now ? plural(each.people_now, "person", "people") : "nobody in view";
  if (state.kind === "live") return `live, ${people}`;
  if (state.kind === "waiting") return state.detail;
  if (state.kind === "unknown") return state.detail || "not known";
  return state.detail.replace(/, since .*/, "").replace("silent", state.word.toLowerCase());
}
