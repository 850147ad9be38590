/** What is wrong, and what to do about it. */

import { byId, element, setChildren } from "./dom.js";
import { entryOf } from "./feed.js";
import { sendsOnlyRubbish } from "./freshness.js";

const DEVICE_ID = /^[A-Za-z0-9._:-]{1,64}$/;
const TOKEN = /^[A-Za-z0-9._~+/-]+=*$/; // RFC 6750; a browser refuses to send some of the others
const NO_TOKEN = "A token has 16 to 4,096 of A-Z a-z 0-9 - . _ ~ + / and perhaps = at its end: this is none.";
const NO_ID = "A camera's id has 1 to 64 of A-Z a-z 0-9 . _ : - so no camera can have this one.";

const WRONG_TOKEN = "The API does not know the one that was entered.";
const WHERE_TOKENS_ARE = "Ask the operator for one: scripts/token creates it, or EMOTION_API_TOKEN has it.";
const HOW_TO_LOG_IN =
  "Reload the page to log in. If the API has tokens, too, have the proxy add one: a request carries one login only. " +
  "docs/operate/proxies.md has recipes.";
const IS_IT_RUNNING = "Is it running, and is this device still on the network?";
const AGAIN = "This page tries again by itself, after 30 s at the latest, or when the API says.";
const WHERE_TO_RUN_IT =
  "Run it on the broker's machine. With scripts/run it needs no login. " +
  "On a server, scripts/device add prints what the camera needs to log in.";
const IF_NOTHING_SHOWS_UP = "If no data appears, check that the daemon runs, and read its log about this camera.";

/** The button calls `tryNow`; `useToken` is called with a token that the visitor entered. */
export function notice({ tryNow, useToken }) {
  const form = byId("token-form");
  const input = byId("token");
  let shown = "";

  byId("try-now").addEventListener("click", tryNow);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const token = input.value.trim();
    const isToken = TOKEN.test(token) && token.length >= 16 && token.length <= 4096;
    refuse(isToken ? "" : NO_TOKEN);
    if (!isToken) return;
    input.value = "";
    useToken(token);
  });

  function refuse(reason) {
    byId("token-wrong").textContent = reason;
    input.setAttribute("aria-invalid", reason !== "");
    if (reason && form.contains(document.activeElement)) input.focus();
  }

  /**
   * Does nothing if the same notice is shown already, so that input and selection stay. `level` is that of its heading:
   * 1 if the page shows no camera.
   */
  function show(key, level, title, body, { asksForToken = false, refused = "", canTry = false } = {}) {
    if (shown === key + level) return;
    shown = key + level;
    byId("notice-title").replaceWith(element(`h${level}`, { id: "notice-title", tabindex: "-1" }, ...[title].flat()));
    setChildren(byId("notice-body"), body);
    form.hidden = !asksForToken;
    byId("try-now").hidden = !canTry;
    byId("notice").hidden = false;
    refuse(refused);
    if (asksForToken && document.activeElement === document.body) input.focus();
  }

  function hide() {
    shown = "";
    byId("notice").hidden = true;
  }

  return { show, hide };
}

/** Shows what the visitor should know before the data, if anything. Returns the sentence for a screen reader. */
export function showNotice(notice, known) {
  const { camera, devices, problem, tokensRefused } = known;
  const entry = entryOf(known, camera.device);
  const level = camera.summary ? 2 : 1;
  if (problem) {
    const [title, body] = forError(problem);
    const asksForToken = problem.kind === "token";
    const refused = asksForToken && tokensRefused !== null ? WRONG_TOKEN : "";
    const key = `${problem.kind} ${problem.message} ${tokensRefused}`;
    notice.show(key, level, title, body, { asksForToken, refused, canTry: !asksForToken });
    return title;
  }
  if (!devices) return "";
  if (!camera.device && devices.devices.length) {
    notice.hide();
    return "";
  }
  if (!camera.device) {
    const title = "No camera has sent anything yet";
    notice.show("none", level, title, howToPublish("jetson_1"));
    return title;
  }
  if (!entry) {
    const hasOthers = devices.devices.length > 0;
    const body = howToPublish(camera.device, { hasOthers });
    const title = ["No camera “", element("bdi", {}, camera.device), "” has been heard yet"];
    notice.show(`unknown ${camera.device} ${hasOthers}`, level, title, body);
    return `No camera ${camera.device} has been heard yet`;
  }
  if (sendsOnlyRubbish(entry) && !camera.heard) {
    const title = "Messages of this camera arrive, and are no valid batches";
    notice.show(`invalid ${camera.device}`, level, title, howToPublish(camera.device));
  } else if (!entry.received_at && !entry.last_batch && !camera.heard) {
    const title = "This camera has not sent a batch yet";
    notice.show(`waiting ${camera.device}`, level, title, howToPublish(camera.device));
  } else {
    notice.hide();
  }
  return "";
}

/** What to show for an ApiError. */
function forError(error) {
  switch (error.kind) {
    case "token":
      return ["This API asks for a token", [text(WHERE_TOKENS_ARE)]];
    case "login":
      return ["A proxy in front of the API asks for its own login", [text(HOW_TO_LOG_IN)]];
    case "forbidden":
      return ["The token does not allow this view", [text(error.message)]];
    case "unavailable":
      return ["The API cannot answer now", [text(error.message), text(AGAIN)]];
    case "unreachable":
      return ["The API does not answer", [text(`${IS_IT_RUNNING} ${error.message}`.trim()), text(AGAIN)]];
    default:
      return ["The API answered with an error", [text(error.message), text(AGAIN)]];
  }
}

/** How to send a first batch as the camera `id`, or that no camera can have this id. */
function howToPublish(id, { hasOthers = false } = {}) {
  if (!DEVICE_ID.test(id)) {
    return [text(hasOthers ? `${NO_ID} Pick another above.` : NO_ID)];
  }
  return [
    text("Send a batch yourself, and it shows up here within two seconds:"),
    element("pre", { tabindex: "0", "aria-label": "Command that sends a batch" }, element("code", {}, command(id))),
    text(WHERE_TO_RUN_IT),
    element("p", {}, `${IF_NOTHING_SHOWS_UP} `, element("a", { href: "docs" }, "The API's documentation")),
  ];
}

function command(id) {
  const topic = meta("batch-topic").replace("{device_id}", id);
  const port = meta("mqtt-port") === "1883" ? "" : ` -p ${meta("mqtt-port")}`;
  const people = [{ person_id: "1", cumulative: { happy: 12.5, sad: 3, angry: 0.5 } }];
  const head = `{"device_id": "${id}", "timestamp": "'$(date -u +%Y-%m-%dT%H:%M:%SZ)'"`;
  return `mosquitto_pub${port} -V 5 -q 1 -t ${quoted(topic)} -m '${head}, "people": ${JSON.stringify(people)}}'`;
}

function meta(name) {
  return document.querySelector(`meta[name=${name}]`).content;
}

/** For the shell; as it is where that is the same. */
function quoted(word) {
  return /^[\w./:-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

function text(sentence) {
  return element("p", {}, sentence);
}
