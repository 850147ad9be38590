/** The live page: connects address, questions and answers with the parts that show them. */

import { Api, tokenInAddress } from "./api.js";
import { cameraView } from "./camera.js";
import { Clock } from "./clock.js";
import { deviceList, shownName } from "./devices.js";
import { byId, element, setText } from "./dom.js";
import { NOTHING, SECOND, createFeed } from "./feed.js";
import { number } from "./format.js";
import { needsAttention, stateOf } from "./freshness.js";
import { notice, showNotice } from "./notice.js";
import { overviewView } from "./overview.js";
import { createRouter } from "./router.js";
import { createStore } from "./store.js";
import { wallView } from "./wall.js";

const TITLE = "Emotion analytics, live";

const clock = new Clock();
const api = new Api(clock);
const router = createRouter(follow);
const isWall = router.get().wall !== "";
api.takeToken({ stays: isWall }); // a wall needs it again after a restart of its browser
const store = createStore({ view: router.get(), ...NOTHING, showsAll: false });
const choose = (device) => router.go({ device });
const suggest = (device) => router.go({ device }, { replaces: true });
const parts = {
  camera: cameraView({ router, download, showAll }),
  devices: deviceList(choose),
  overview: overviewView({ router }),
  wall: isWall ? wallView({ router }) : null,
  notice: notice({ tryNow: () => feed.askNow(), useToken }),
};
const feed = createFeed({ store, api, clock, suggest });

let movesFocus = false;
let said = "";
let redraw;

byId("not-started").remove();
byId("forget").addEventListener("click", () => {
  api.token = "";
  location.reload();
});
addEventListener("hashchange", () => tokenInAddress() && location.reload());
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

function showAll(showsAll) {
  store.set({ showsAll });
  feed.askNow();
}

/** Saves the shown history as a file. The token cannot stand in a link. */
async function download() {
  try {
    const { name, text } = await feed.csv();
    const link = element("a", { href: URL.createObjectURL(new Blob([text], { type: "text/csv" })), download: name });
    link.click();
    URL.revokeObjectURL(link.href);
    setText(byId("csv-problem"), "");
  } catch (error) {
    setText(byId("csv-problem"), `The file cannot be read. ${error.message}`);
  }
}

/** Shows a state of the store. */
function show(known) {
  const { devices, problem, camera } = known;
  byId("forget").hidden = !api.token;
  if (problem?.kind === "token" && devices) return location.reload(); // nothing stays of what may not be seen any more
  const showsAll = devices && !camera.device && !isWall;
  const spoken = isWall && known.overview ? parts.notice.hide() : showNotice(parts.notice, known);
  if (spoken) say(spoken);
  byId("content").hidden = !devices || !camera.device;
  byId("overview").hidden = !showsAll || !known.overview?.cameras.length;
  byId("wall").hidden = !isWall || !known.overview;
  showTime(known);
  showAgainIn(problem ? SECOND : 1.5 * SECOND); // the next answer is there before
  if (movesFocus && !problem && devices) {
    movesFocus = false;
    byId(showsAll ? "overview-title" : camera.summary ? "camera-name" : "notice-title").focus(); // the form is gone that had it
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
  if (isWall) {
    if (known.overview) parts.wall.show(known, now);
    return;
  }
  const live = parts.devices.show(known, now);
  if (!known.camera.device) {
    if (!known.overview?.cameras.length) return;
    const line = parts.overview.show(known, now);
    document.title = `${attention(known, now)}${line}`;
    if (!known.problem) say(line, "all cameras");
    return;
  }
  parts.overview.clear();
  const shown = parts.camera.show(known, now, live);
  if (!shown) return;
  const { entry, state } = shown;
  const name = shownName(entry, known.devices);
  document.title = `${attention(known, now)}${name}: ${state.word.toLowerCase()}`;
  const more = state.kind === "live" ? "" : `, ${state.detail}`;
  if (!known.problem) say(`${name}: ${state.word}${more}`, `${entry.device_id} ${state.kind}`);
}

/** How many cameras need attention, for the title of the tab. */
function attention(known, now) {
  const failing = known.devices.devices.filter((each) => needsAttention(each, stateOf(each, known, now))).length;
  return failing ? `(${number(failing)}) ` : "";
}

/** Has a screen reader speak, once for each `what`. */
function say(sentence, what = sentence) {
  if (said === what) return;
  said = what;
  byId("spoken").textContent = sentence;
}
