/** The view of one camera: its state, its people and its history. */

import { byId, element, setText } from "./dom.js";
import { entryOf } from "./feed.js";
import { hints, program, stateOf } from "./freshness.js";
import { heatmap } from "./heatmap.js";
import { historyView } from "./history.js";
import { people } from "./people.js";
import { period } from "./period.js";
import { dayOf, daysOf } from "./range.js";
import { shownName } from "./devices.js";

/** `download` is called for the history as a file, `showAll` with whether all people in view are to be shown. */
export function cameraView({ router, download, showAll }) {
  const parts = {
    history: historyView(),
    people: people(showAll),
    period: period({ router, download }),
    week: heatmap((week) => router.go({ week })),
  };
  let device;

  /**
   * Shows what the store has of the camera, at the time `now` by the server's clock. `live`: how many of all cameras are.
   * Returns the camera's entry and state; null before they are known.
   */
  function show(known, now, live) {
    const { camera } = known;
    const entry = entryOf(known, camera.device);
    const place = stageOf(known, entry);
    byId("content").dataset.camera = place;
    byId("content").setAttribute("aria-busy", place === "loading");
    if (device !== camera.device) clear(camera.device);
    if (!entry || !camera.summary) return null;
    const state = stateOf(entry, known, now);
    setText(byId("camera-name").firstChild, entry.device_name);
    setText(byId("camera-id"), entry.device_name === camera.device ? "" : camera.device);
    setText(byId("program"), program(entry.info));
    byId("state").dataset.state = state.kind;
    setText(byId("state-word"), state.word);
    setText(byId("state-detail"), state.detail);
    showHints(state.kind === "unknown" ? [] : hints(entry, state, live));
    parts.people.show(camera.summary, state, now);
    showHistory(known, entry, now);
    if (camera.hours) parts.week.show(camera.hours, known.view.week, now);
    return { entry, state };
  }

  function showHistory({ camera, devices, view }, entry, now) {
    const { history, historyProblem } = camera;
    const others = devices.devices.filter((each) => each.device_id !== camera.device);
    const names = others.map((each) => [each.device_id, shownName(each, devices)]);
    parts.period(view, dayOf(now), names);
    const { from, to } = daysOf(view.range, dayOf(now));
    const isShown = history?.days.from === from && history.days.to === to && history.compare === view.compare;
    byId("history").setAttribute("aria-busy", !isShown && !historyProblem);
    const other = new Map(names).get(history?.compare);
    if (historyProblem) parts.history.fail(historyProblem);
    else if (history) parts.history.show(history, { view: view.view, now, skew: entry.clock_skew ?? 0, other });
  }

  function clear(id) {
    device = id;
    parts.people.clear();
    parts.history.clear();
    parts.week.clear();
  }

  return { show };
}

function stageOf({ camera, problem }, entry) {
  if (camera.summary) return "shown";
  return entry && !problem ? "loading" : "none";
}

function showHints(sentences) {
  const list = byId("hints");
  const shown = [...list.children].map((each) => each.textContent);
  if (shown.join("\n") === sentences.join("\n")) return;
  list.replaceChildren(...sentences.map((each) => element("li", {}, each)));
}
