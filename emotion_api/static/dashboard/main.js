/** The live page: connects address, questions and answers with the parts that show them. */

import { Api } from "./api.js";
import { cameraView } from "./camera.js";
import { Clock } from "./clock.js";
import { deviceList } from "./devices.js";
import { byId } from "./dom.js";
import { NOTHING, createFeed, entryOf } from "./feed.js";
import { notice, showNotice } from "./notice.js";
import { createRouter } from "./router.js";
import { createStore } from "./store.js";

const SECOND = 1000;
const TITLE = "Emotion analytics, live";

const clock = new Clock();
const api = new Api(clock);
const router = createRouter(follow);
const store = createStore({ view: router.get(), ...NOTHING });
const choose = (device) => router.go({ device });
const suggest = (device) => router.go({ device }, { replaces: true });
const parts = { camera: cameraView(), devices: deviceList(choose), notice: notice({ tryNow: () => feed.askNow(), useToken }) };
const feed = createFeed({ store, api, clock, suggest });

let movesFocus = false;
let said = "";
let redraw;

byId("not-started").remove();
byId("forget").addEventListener("click", () => {
  api.token = "";
  location.reload();
});
store.subscribe(show);

function follow(view) {
  store.set({ view });
  feed.follow(view);
}

function useToken(token) {
  api.token = token;
  movesFocus = true;
  feed.startAgain();
}

/** Shows a state of the store. */
function show(known) {
  const { devices, problem, camera } = known;
  byId("forget").hidden = !api.token;
  if (problem?.kind === "token" && devices) return location.reload(); // nothing stays of what may not be seen any more
  const spoken = showNotice(parts.notice, known);
  if (spoken) say(spoken);
  byId("content").hidden = !devices;
  showTime(known);
  showAgainIn(problem ? SECOND : 1.5 * SECOND); // the next answer is there before
  if (movesFocus && !problem && devices) {
    movesFocus = false;
    byId(camera.summary ? "camera-name" : "notice-title").focus(); // the form is gone that had it
  }
}

function showAgainIn(milliseconds) {
  clearTimeout(redraw);
  redraw = setTimeout(() => {
    if (!document.hidden) showTime(store.get());
    showAgainIn(SECOND);
  }, milliseconds);
}

/** All that changes while nothing arrives: how long ago everything was. */
function showTime(known) {
  byId("pick").hidden = !known.devices;
  if (!known.devices) {
    document.title = TITLE;
    return;
  }
  const now = clock.now();
  const live = parts.devices.show(known, now);
  const shown = parts.camera.show(known, now, live);
  if (!shown) return;
  const { entry, state } = shown;
  document.title = `${entry.device_name}: ${state.word.toLowerCase()}`;
  const more = state.kind === "live" ? "" : `, ${state.detail}`;
  if (!known.problem) say(`${entry.device_name}: ${state.word}${more}`, `${entry.device_id} ${state.kind}`);
}

/** Has a screen reader speak, once for each `what`. */
function say(sentence, what = sentence) {
  if (said === what) return;
  said = what;
  byId("spoken").textContent = sentence;
}
