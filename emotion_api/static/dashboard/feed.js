/** Asks the API what the shown view needs, once a second, and puts the answers into the store. */

import { ApiError } from "./api.js";
import { byName } from "./devices.js";
import { ZONE } from "./format.js";
import { ALL, SHOWN } from "./people.js";
import { poll } from "./poll.js";
import { addDays, dayOf, daysOf, parametersOf, shifted } from "./range.js";

export const SECOND = 1000;
const MANY_DEVICES = 100; // of more than these, the list is asked for less often
const MANY_DEVICES_EVERY = 4 * SECOND;
const HISTORY_EVERY = 10 * SECOND;
const COMPARED_EVERY = 60 * SECOND;
const EACH_HOUR = 3600 * SECOND;
const MONTH = 28; // days
const WEEK = 7; // days
const A_GAP = 3 * SECOND;
const OVERVIEW_EVERY = 2 * SECOND;
const LARGE_OVERVIEW_EVERY = 5 * SECOND;
const LONGEST_PAUSE = 30 * SECOND;
const OVERVIEW = "api/dashboard/overview";

/**
 * What the page knows before any answer. `answered`: when the API last did, by the server's clock. `tokensRefused`: how
 * many tokens the visitor has entered when `problem` came, or null if it came without a token.
 */
export const NOTHING = { devices: null, overview: null, camera: cameraOf(""), problem: null, tokensRefused: null, answered: 0 };

/**
 * What is known of the camera `device`: its `summary`, its `history` or why that cannot be read, and `heard`: when this
 * page saw something new of it since /api/devices last answered, by the server's clock, or 0. A history has its `days`,
 * the `answer` of the API, and the history that it is `compared` with, if any. `hours`: those of the last 28 days.
 */
function cameraOf(device) {
  return { device, summary: null, history: null, historyProblem: "", hours: null, heard: 0 };
}

/** What tells one history from another: the answer to one is not that to the other. */
function historyKey({ range, compare }, now) {
  const days = daysOf(range, dayOf(now));
  return { days, compare, key: `${days.from} ${days.to} ${compare}` };
}

/** `suggest` is called with the id of the camera to show if the view names none. */
export function createFeed({ store, api, clock, suggest }) {
  let camera = cameraOf(store.get().view.device);
  let gone = new AbortController();
  let devices = null;
  let overview = null;
  const refused = new Map(); // why, by path: what the token may not ask for
  let failures = 0;
  let due = { devices: 0, history: 0, compared: 0 };
  let summaryRead = -Infinity;
  const askNow = poll(round);

  /** One round of questions. Returns how long to wait for the next. */
  async function round() {
    const { signal } = gone;
    try {
      if (!camera.device) await readOverview(signal);
      const isDue = performance.now() >= Math.min(due.devices, summaryRead + A_GAP);
      if (isDue && (camera.device || refused.has(OVERVIEW))) await readDevices(signal);
      if (isKnown(camera.device)) await Promise.all([readSummary(signal), readHistory(signal), readHours(signal)]);
      signal.throwIfAborted();
    } catch (error) {
      if (signal.aborted) return { pause: 0, early: true };
      if (!(error instanceof ApiError)) throw error;
      failures += 1;
      refused.clear();
      due.devices = 0;
      const tokensRefused = api.token ? api.tokensEntered : null;
      store.set({ devices, overview, camera: { ...camera }, problem: error, tokensRefused });
      const backoff = error.kind === "token" ? LONGEST_PAUSE : Math.min(SECOND * 2 ** (failures - 1), LONGEST_PAUSE);
      return { pause: Math.max(backoff, error.retryAfter * SECOND), early: !error.retryAfter };
    }
    failures = 0;
    store.set({ devices, overview, camera: { ...camera }, problem: null, answered: clock.now() });
    return { pause: pause(), early: true };
  }

  function pause() {
    if (camera.device) return SECOND;
    return devices.devices.length > MANY_DEVICES ? LARGE_OVERVIEW_EVERY : OVERVIEW_EVERY;
  }

  /** The answer; nothing if the token may not ask for it. */
  async function ifAllowed(path, parameters, signal) {
    if (refused.has(path)) return null;
    return api.get(path, parameters, signal).catch((error) => {
      if (error.kind !== "forbidden") throw error;
      refused.set(path, error);
    });
  }

  /** All cameras at once. If there is one only, the page shows that one, unless the token may not. */
  async function readOverview(signal) {
    const answer = await ifAllowed(OVERVIEW, {}, signal);
    signal.throwIfAborted();
    const { wall } = store.get().view;
    if (!answer && wall) throw refused.get(OVERVIEW);
    if (!answer) return;
    overview = answer;
    const { cameras, ...site } = answer;
    devices = { ...site, devices: cameras.map((each) => ({ ...each, people_now: each.now.people })) };
    if (camera.device || cameras.length !== 1 || wall) return;
    const [{ device_id }] = cameras;
    if (await ifAllowed("api/dashboard/summary", { device_id, limit: SHOWN + 1 }, signal)) show(device_id);
  }

  function show(device) {
    camera.device = device;
    suggest(device);
  }

  /** Without /api/devices, the overview tells of them. */
  async function readDevices(signal) {
    const answer = await ifAllowed("api/devices", {}, signal);
    if (answer) devices = answer;
    else await readOverview(signal);
    if (!answer && refused.has(OVERVIEW)) throw refused.get("api/devices");
    if (!camera.device && devices.devices.length) show(mostInteresting(devices.devices));
    camera.heard = 0; // what was heard until now is in received_at
    const isSlow = isKnown(camera.device) && devices.devices.length > MANY_DEVICES;
    due.devices = performance.now() + (isSlow ? MANY_DEVICES_EVERY : SECOND) - SECOND / 2;
  }

  async function readSummary(signal) {
    const asked = { device_id: camera.device, limit: (store.get().showsAll ? ALL : SHOWN) + 1 };
    const summary = await api.get("api/dashboard/summary", asked, signal);
    signal.throwIfAborted();
    const isNewer = camera.summary && camera.summary.updated_at !== summary.updated_at;
    // After a gap, e.g. in a tab that was hidden, it may have come at any time since: /api/devices tells.
    if (isNewer && performance.now() < summaryRead + A_GAP) camera.heard = clock.now();
    camera.summary = summary;
    summaryRead = performance.now();
  }

  /** Every ten seconds, and at once for another range. That it cannot be read holds up nothing else. */
  async function readHistory(signal) {
    const { key, days, compare } = historyKey(store.get().view, clock.now());
    if (performance.now() < due.history && key === due.key) return;
    const isOther = key !== camera.history?.key;
    try {
      const [answer, compared] = await Promise.all([
        api.get("api/dashboard/history", parametersOf(camera.device, days), signal),
        compare && (isOther || performance.now() >= due.compared) ? readCompared(compare, days, signal) : null,
      ]);
      signal.throwIfAborted();
      const before = isOther ? { compared: null, comparedProblem: "" } : camera.history;
      camera.history = { ...before, key, days, compare, answer, ...compared };
      camera.historyProblem = "";
    } catch (error) {
      if (!isOfOnePart(error)) throw error;
      camera.historyProblem = error.message;
    }
    due.history = performance.now() + HISTORY_EVERY - SECOND / 2;
    due.key = key;
  }

  /** The history of the same days a week before, or of another camera. */
  async function readCompared(compare, days, signal) {
    const isWeek = compare === "week";
    const asked = parametersOf(isWeek ? camera.device : compare, isWeek ? shifted(days, -WEEK) : days);
    due.compared = performance.now() + COMPARED_EVERY;
    try {
      return { compared: await api.get("api/dashboard/history", asked, signal, "compared"), comparedProblem: "" };
    } catch (error) {
      if (!isOfOnePart(error)) throw error;
      return { compared: null, comparedProblem: `It cannot be compared. ${error.message}` };
    }
  }

  /** Once an hour, and not before the rest is there. If that cannot be read, the other history says why. */
  async function readHours(signal) {
    const hour = Math.floor(clock.now() / EACH_HOUR);
    if (!camera.summary || hour === due.hours) return;
    const start = addDays(dayOf(clock.now()), 1 - MONTH);
    const asked = { device_id: camera.device, start, step: EACH_HOUR / SECOND, tz: ZONE };
    try {
      const answer = await api.get("api/dashboard/history", asked, signal, "hours");
      signal.throwIfAborted();
      camera.hours = answer;
    } catch (error) {
      if (!isOfOnePart(error)) throw error;
    }
    due.hours = hour;
  }

  const isKnown = (id) => entryOf({ devices }, id) !== undefined;

  /** Asks for what another view needs. */
  function follow({ device }) {
    if (device !== camera.device) startAgain(device);
    else if (camera.summary) askNow(); // perhaps of another range
  }

  /** The history that is shown, until now, as CSV: a name of a file and its content. */
  function csv() {
    const { days } = historyKey(store.get().view, clock.now());
    const asked = parametersOf(camera.device, days, clock.now());
    return api.file("api/dashboard/history", { ...asked, format: "csv" }, gone.signal);
  }

  /** Forgets the camera's data and asks for everything anew. */
  function startAgain(device = camera.device) {
    refused.clear();
    gone.abort();
    gone = new AbortController();
    camera = cameraOf(device);
    due = { devices: 0, history: 0, compared: 0 };
    summaryRead = -Infinity;
    failures = 0;
    store.set({ camera: { ...camera } });
    askNow();
  }

  return { askNow, csv, follow, startAgain };
}

/** Whether the rest of the page goes on without what could not be read. */
const isOfOnePart = ({ kind }) => kind === "failed" || kind === "forbidden";

/** What /api/devices says of a camera; undefined if the API does not know it. */
export function entryOf({ devices }, id) {
  return devices?.devices.find((each) => each.device_id === id);
}

/** A camera that is heard now, else the one that was heard last. */
function mostInteresting(list) {
  const byReceived = (a, b) => (Date.parse(b.received_at) || 0) - (Date.parse(a.received_at) || 0);
  const sorted = [...list].sort(byName);
  return (sorted.find((each) => each.online) ?? sorted.sort(byReceived)[0]).device_id;
}
