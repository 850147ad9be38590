/** Whether a camera is heard, and since when not. By the time at which its batches arrived, not by its own clock. */

import { age, moment, plural } from "./format.js";

const NOTABLE_SKEW = 3; // seconds
const NONE_IS_LIVE =
  "No camera is live: do the daemon and the broker run? On their machine: docker compose ps, or the window of scripts/run";
const WHERE_REJECTED_ARE =
  "The daemon stores them with the reason. To list them on its machine, run scripts/dead-letters list; " +
  "docs/operate/dead-letters.md#find-the-cause explains them.";

/**
 * The state of a camera.
 *
 * `entry` is what /api/devices says of it, `heard` when this page saw something new of it since (or 0), `now` and
 * `heard` in milliseconds by the server's clock, `silentAfter` in seconds. `kind`: live, silent, offline or waiting.
 */
export function freshness(entry, { heard = 0, now, silentAfter }) {
  const received = Math.max(Date.parse(entry.received_at ?? "") || 0, heard);
  if (!received) return neverHeard(entry, now);
  const seconds = Math.max(0, (now - received) / 1000);
  const said = saidGoodbye(entry, received);
  if (seconds <= silentAfter && !said) {
    const detail = seconds < 2 ? "updated just now" : `updated ${age(seconds)} ago`;
    return { kind: "live", word: "Live", detail, received };
  }
  const since = `since ${moment(received, now)}`;
  if (said) return { kind: "offline", word: "Offline", detail: `silent for ${age(seconds)}, ${since}`, received };
  return { kind: "silent", word: "Silent", detail: `silent for ${age(seconds)}, ${since}`, received };
}

/** What is left of a state while the API does not answer; `was`: which kind it had. */
export function notKnown(state, now) {
  const detail = state.received ? `last heard ${age(Math.max(0, (now - state.received) / 1000))} ago` : "";
  return { ...state, was: state.kind, kind: "unknown", word: "Not known", detail };
}

/** The state of the camera `entry` by what the store has; as it was when the API last answered, while it does not. */
export function stateOf(entry, { camera, devices, problem, answered }, now) {
  const heard = entry.device_id === camera.device ? camera.heard : 0;
  const state = freshness(entry, { heard, now: problem ? answered : now, silentAfter: devices.silent_after });
  return problem ? notKnown(state, now) : state;
}

/** Whether it went offline after what was heard last. That is no reason for a silence that began before. */
function saidGoodbye(entry, received) {
  return entry.status === "offline" && Date.parse(entry.status_at ?? "") >= received;
}

function neverHeard(entry, now) {
  if (entry.last_batch) {
    const detail = `its last batch is of ${moment(Date.parse(entry.last_batch), now)}`;
    return { kind: "silent", word: "Silent", detail, received: 0 };
  }
  return { kind: "waiting", word: "Waiting", detail: waitingFor(entry), received: 0 };
}

function waitingFor(entry) {
  if (sendsOnlyRubbish(entry)) return "its messages arrive, and are no valid batches";
  return entry.status === "online" ? "connected, but no batch has come yet" : "no batch has come yet";
}

/** Whether all that came of it in the last hour was rejected, and no batch ever came. */
export function sendsOnlyRubbish(entry) {
  return !entry.received_at && !entry.last_batch && entry.rejected_last_hour > 0;
}

/** Whether a camera needs attention: it is not heard any more, or all its messages are rejected. */
export function needsAttention(entry, state) {
  return ["silent", "offline"].includes(state.kind) || sendsOnlyRubbish(entry);
}

/** What its installer should do something about, a sentence each. `live`: how many of all cameras are. */
export function hints(entry, state, live) {
  const sentences = [];
  if (state.kind === "silent") {
    sentences.push("Is its program running, and does it reach the broker?");
  } else if (state.kind === "offline") {
    sentences.push("It said goodbye, or the broker lost the connection: is it switched on, and on the network?");
  }
  if (live === 0 && !sendsOnlyRubbish(entry)) sentences.push(NONE_IS_LIVE);
  const skew = entry.clock_skew ?? 0;
  if (clockIsWrong(entry, state)) {
    const cure = isHalfHours(skew) && !entry.clock_offset
      ? "Most likely it sends local time without an offset: let it send UTC with a Z."
      : "On the camera: sudo timedatectl set-ntp true";
    sentences.push(`Its clock is ${offBy(skew)}. ${cure}`);
  }
  if (entry.clock_offset) sentences.push("Its clock was set back. Its times continue from before, until the clock is right.");
  if (entry.rejected_last_hour > 0) {
    const count = plural(entry.rejected_last_hour, "message was", "messages were");
    sentences.push(`${count} no valid batch in the last hour. ${WHERE_REJECTED_ARE}`);
  }
  return sentences;
}

/** The statistics of a camera's program in one line; `info` may be null. */
export function program(info) {
  if (!info) return "";
  const parts = [];
  if (info.fps !== null) parts.push(`${info.fps} frames a second`);
  if (info.queue_age >= 5) parts.push(`a batch waited ${age(info.queue_age)}`);
  if (info.reconnects > 0) parts.push(plural(info.reconnects, "reconnect", "reconnects"));
  if (info.version !== null) parts.push(`version ${info.version}`);
  return parts.length ? `Its program: ${parts.join(", ")}` : "";
}

/** Whether a camera's clock is off. A message that has waited looks like a clock that is behind, unless it is new. */
export function clockIsWrong({ clock_skew: skew }, state) {
  return skew > NOTABLE_SKEW || (skew < -NOTABLE_SKEW && state.kind === "live");
}

function isHalfHours(skew) {
  const halfHours = Math.round(skew / 1800);
  return halfHours !== 0 && Math.abs(halfHours) < 30 && Math.abs(skew - halfHours * 1800) <= 60;
}

/** How wrong a clock is that is `skew` seconds ahead. */
export function offBy(skew) {
  return `${age(Math.abs(skew))} ${skew > 0 ? "ahead" : "behind"}`;
}
