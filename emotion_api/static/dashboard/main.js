/** The live page: asks the API, keeps what it said, and has each part of the page show it. */

import { Api, ApiError } from "./api.js";
import { STEP, chart } from "./chart.js";
import { Clock } from "./clock.js";
import { byName, deviceList } from "./devices.js";
import { byId, element, setText } from "./dom.js";
import { freshness, hints, notKnown, program, sendsOnlyRubbish } from "./freshness.js";
import { WRONG_TOKEN, forError, howToPublish, notice } from "./notice.js";
import { SHOWN, people } from "./people.js";
import { poll } from "./poll.js";
import { totals } from "./totals.js";

const SECOND = 1000;
const MANY_DEVICES = 100; // of more than these, the list is asked for less often
const MANY_DEVICES_EVERY = 4 * SECOND;
const HISTORY_EVERY = 10 * SECOND;
const A_GAP = 3 * SECOND;
const LONGEST_PAUSE = 30 * SECOND;

const clock = new Clock();
const api = new Api(clock);
const parts = {
  chart: chart(),
  devices: deviceList(choose),
  notice: notice({ tryNow: () => askNow(), useToken }),
  people: people(),
  totals: totals(),
};

let devices = null;
let chosen = deviceInAddress();
let camera = newCamera();
let problem = null;
let failures = 0;
let devicesDue = 0;
let said = "";
let answered = 0;
let tokensEntered = 0;
let movesFocus = false;
let redraw;

/** What is known of the chosen camera. */
function newCamera() {
  return { summary: null, read: -Infinity, heard: 0, historyDue: 0, nextBucket: 0, gone: new AbortController() };
}

const askNow = poll(step);
byId("not-started").remove();
addEventListener("popstate", () => choose(deviceInAddress(), { keepsAddress: true }));
byId("forget").addEventListener("click", () => {
  api.token = "";
  location.reload();
});

/** One round of questions. Returns how long to wait for the next. */
async function step() {
  const asked = camera;
  try {
    if (performance.now() >= Math.min(devicesDue, asked.read + A_GAP)) await readDevices(asked);
    if (asked === camera && isKnown(chosen)) await Promise.all([readSummary(asked), readHistory(asked)]);
    problem = null;
    failures = 0;
    answered = clock.now();
  } catch (error) {
    if (asked !== camera) return { pause: 0, early: true };
    if (!(error instanceof ApiError)) throw error;
    problem = error;
    failures += 1;
    devicesDue = 0;
  }
  show();
  if (!problem) return { pause: SECOND, early: true };
  const backoff = problem.kind === "token" ? LONGEST_PAUSE : Math.min(SECOND * 2 ** (failures - 1), LONGEST_PAUSE);
  return { pause: Math.max(backoff, problem.retryAfter * SECOND), early: !problem.retryAfter };
}

async function readDevices(asked) {
  devices = await api.get("api/devices", {}, asked.gone.signal);
  if (!chosen && devices.devices.length) {
    chosen = mostInteresting(devices.devices);
    history.replaceState(null, "", address(chosen));
  }
  asked.heard = 0; // what was heard until now is in received_at
  const isSlow = isKnown(chosen) && devices.devices.length > MANY_DEVICES;
  devicesDue = performance.now() + (isSlow ? MANY_DEVICES_EVERY : SECOND) - SECOND / 2;
}

async function readSummary(asked) {
  const summary = await api.get("api/dashboard/summary", { device_id: chosen, limit: SHOWN + 1 }, asked.gone.signal);
  const isNewer = asked.summary && asked.summary.updated_at !== summary.updated_at;
  // After a gap, e.g. in a tab that was hidden, it may have come at any time since: /api/devices tells.
  if (isNewer && performance.now() < asked.read + A_GAP) asked.heard = clock.now();
  asked.summary = summary;
  asked.read = performance.now();
}

/** Every ten seconds, and when a quarter of an hour has ended. That it cannot be read holds up nothing else. */
async function readHistory(asked) {
  if (performance.now() < asked.historyDue && clock.now() < asked.nextBucket) return;
  try {
    const answer = await api.get("api/dashboard/history", { device_id: chosen, step: STEP }, asked.gone.signal);
    parts.chart.show(answer, clock.now(), entryOf(chosen)?.clock_skew ?? 0);
  } catch (error) {
    if (!(error instanceof ApiError) || error.kind !== "failed") throw error;
    parts.chart.fail(error.message);
  }
  asked.historyDue = performance.now() + HISTORY_EVERY - SECOND / 2;
  asked.nextBucket = (Math.floor(clock.now() / SECOND / STEP) + 1) * STEP * SECOND + SECOND;
}

function choose(id, { keepsAddress = false } = {}) {
  if (id === chosen) return; // a popstate may also be that of the skip link
  if (!keepsAddress) history.pushState(null, "", address(id));
  chosen = id;
  startAgain();
}

function useToken(token) {
  api.token = token;
  tokensEntered += 1;
  movesFocus = true;
  startAgain();
}

/** Forgets the camera's data and asks for everything anew. */
function startAgain() {
  camera.gone.abort();
  camera = newCamera();
  devicesDue = 0;
  failures = 0;
  parts.chart.clear();
  byId("content").dataset.camera = "loading";
  askNow();
}

function show() {
  byId("forget").hidden = !api.token;
  if (problem?.kind === "token" && devices) return location.reload(); // nothing stays of what may not be seen any more
  showNotice();
  byId("content").hidden = !devices;
  byId("content").dataset.camera = camera.summary ? "shown" : "none";
  if (camera.summary) parts.totals.show(camera.summary.history_totals);
  showState();
  showAgainIn(problem ? SECOND : 1.5 * SECOND); // the next answer is there before
  if (movesFocus && !problem) {
    movesFocus = false;
    byId(camera.summary ? "camera-name" : "notice-title").focus(); // the form is gone that had it
  }
}

function showAgainIn(milliseconds) {
  clearTimeout(redraw);
  redraw = setTimeout(() => {
    if (!document.hidden) showState();
    showAgainIn(SECOND);
  }, milliseconds);
}

function showNotice() {
  const hasOthers = devices?.devices.some((each) => each.device_id !== chosen);
  if (problem) {
    const [title, body] = forError(problem);
    const asksForToken = problem.kind === "token";
    const refused = asksForToken && api.token ? WRONG_TOKEN : "";
    const key = `${problem.kind} ${problem.message} ${Boolean(api.token)} ${tokensEntered}`;
    parts.notice.show(key, title, body, { asksForToken, refused, canTry: !asksForToken });
    say(title);
  } else if (!chosen) {
    parts.notice.show("none", "No camera has sent anything yet", howToPublish("jetson_1"));
    say("No camera has sent anything yet");
  } else if (!isKnown(chosen)) {
    const body = howToPublish(chosen, { hasOthers });
    parts.notice.show(`unknown ${chosen} ${hasOthers}`, `No camera “${chosen}” has been heard yet`, body);
    say(`No camera ${chosen} has been heard yet`);
  } else if (sendsOnlyRubbish(entryOf(chosen)) && !camera.heard) {
    const title = "Messages of this camera arrive, and are no valid batches";
    parts.notice.show(`invalid ${chosen}`, title, howToPublish(chosen));
  } else if (neverSent()) {
    parts.notice.show(`waiting ${chosen}`, "This camera has not sent a batch yet", howToPublish(chosen));
  } else {
    parts.notice.hide();
  }
}

/** All that changes while nothing arrives: how long ago everything was. */
function showState() {
  if (!devices) {
    document.title = "Emotion analytics, live";
    byId("pick").hidden = true;
    return;
  }
  const now = clock.now();
  const at = { heard: camera.heard, now, answered: problem ? answered : now, isOutdated: problem !== null };
  const live = parts.devices.show(devices, chosen, at);
  const entry = entryOf(chosen);
  if (!entry || !camera.summary) return;
  const state = stateOf(entry, at);
  setText(byId("camera-name"), entry.device_name);
  setText(byId("camera-id"), entry.device_name === chosen ? "" : chosen);
  setText(byId("program"), program(entry.info));
  byId("state").dataset.state = state.kind;
  setText(byId("state-word"), state.word);
  setText(byId("state-detail"), state.detail);
  showHints(state.kind === "unknown" ? [] : hints(entry, state, live));
  parts.people.show(camera.summary, state, entry.people_now, now);
  document.title = `${entry.device_name}: ${state.word.toLowerCase()}`;
  const more = state.kind === "live" ? "" : `, ${state.detail}`;
  if (!problem) say(`${entry.device_name}: ${state.word}${more}`, `${chosen} ${state.kind}`);
}

function stateOf(entry, { heard, now, answered, isOutdated }) {
  const state = freshness(entry, { heard, now: answered, silentAfter: devices.silent_after });
  return isOutdated ? notKnown(state, now) : state;
}

function showHints(sentences) {
  const list = byId("hints");
  const shown = [...list.children].map((each) => each.textContent);
  if (shown.join("\n") === sentences.join("\n")) return;
  list.replaceChildren(...sentences.map((each) => element("li", {}, each)));
}

/** Has a screen reader speak, once for each `what`. */
function say(sentence, what = sentence) {
  if (said === what) return;
  said = what;
  byId("spoken").textContent = sentence;
}

function entryOf(id) {
  return devices?.devices.find((each) => each.device_id === id);
}

function isKnown(id) {
  return entryOf(id) !== undefined;
}

function neverSent() {
  const { received_at: receivedAt, last_batch: lastBatch } = entryOf(chosen);
  return !receivedAt && !lastBatch && !camera.heard;
}

/** A camera that is heard now, else the one that was heard last. */
function mostInteresting(list) {
  const byReceived = (a, b) => (Date.parse(b.received_at) || 0) - (Date.parse(a.received_at) || 0);
  const sorted = [...list].sort(byName);
  return (sorted.find((each) => each.online) ?? sorted.sort(byReceived)[0]).device_id;
}

function deviceInAddress() {
  const given = new URLSearchParams(location.search);
  return given.get("device") ?? given.get("device_id") ?? ""; // the API's name, too
}

function address(id) {
  return `?${new URLSearchParams({ device: id })}`;
}
