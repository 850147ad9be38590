/** The view of one camera: its state, its people, its totals and its history. */

import { chart } from "./chart.js";
import { byId, element, setText } from "./dom.js";
import { entryOf } from "./feed.js";
import { hints, program, stateOf } from "./freshness.js";
import { people } from "./people.js";
import { totals } from "./totals.js";

export function cameraView() {
  const parts = { chart: chart(), people: people(), totals: totals() };
  let drawn = {};

  /**
   * Shows what the store has of the camera, at the time `now` by the server's clock. `live`: how many of all cameras are.
   * Returns the camera's entry and state; null before they are known.
   */
  function show(known, now, live) {
    const { camera } = known;
    byId("content").dataset.camera = placeOf(known);
    const entry = entryOf(known, camera.device);
    if (!entry || !camera.summary) return null;
    const state = stateOf(entry, known, now);
    setText(byId("camera-name"), entry.device_name);
    setText(byId("camera-id"), entry.device_name === camera.device ? "" : camera.device);
    setText(byId("program"), program(entry.info));
    byId("state").dataset.state = state.kind;
    setText(byId("state-word"), state.word);
    setText(byId("state-detail"), state.detail);
    showHints(state.kind === "unknown" ? [] : hints(entry, state, live));
    parts.people.show(camera.summary, state, entry.people_now, now);
    parts.totals.show(camera.summary.history_totals);
    showHistory(camera, entry, now);
    return { entry, state };
  }

  function showHistory({ device, history, historyProblem }, entry, now) {
    if (drawn.device !== device) parts.chart.clear();
    if (historyProblem) parts.chart.fail(historyProblem);
    else if (history && history !== drawn.history) parts.chart.show(history, now, entry.clock_skew ?? 0);
    drawn = { device, history: historyProblem ? null : history };
  }

  return { show };
}

function placeOf(known) {
  if (known.camera.summary) return "shown";
  return entryOf(known, known.camera.device) && !known.problem ? "loading" : "none";
}

function showHints(sentences) {
  const list = byId("hints");
  const shown = [...list.children].map((each) => each.textContent);
  if (shown.join("\n") === sentences.join("\n")) return;
  list.replaceChildren(...sentences.map((each) => element("li", {}, each)));
}
