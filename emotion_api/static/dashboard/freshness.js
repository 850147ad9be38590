/** Whether a camera is heard, and since when not. By the time at which its batches arrived, not by its own clock. */

import { age, moment, plural } from "./format.js";

const NOTABLE_SKEW = 3; // seconds

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
  const said = entry.status === "offline" && !entry.online && heard <= Date.parse(entry.received_at);
  if (seconds <= silentAfter && !said) {
    const detail = seconds < 2 ? "updated just now" : `updated ${age(seconds)} ago`;
    return { kind: "live", word: "Live", detail, received };
  }
  const since = `since ${moment(received, now)}`;
  if (said) return { kind: "offline", word: "Offline", detail: `silent for ${age(seconds)}, ${since}`, received };
  return { kind: "silent", word: "Silent", detail: `silent for ${age(seconds)}, ${since}`, received };
}

/** What is left of a state while the API does not answer. */
export function notKnown(state, now) {
  const detail = state.received ? `last heard ${age(Math.max(0, (now - state.received) / 1000))} ago` : "";
  return { ...state, kind: "unknown", word: "Not known", detail };
}

function neverHeard(entry, now) {
  if (entry.last_batch) {
    const detail = `its last batch is of ${moment(Date.parse(entry.last_batch), now)}`;
    return { kind: "silent", word: "Silent", detail, received: 0 };
  }
  const connected = entry.status === "online";
  const detail = connected ? "connected, but no batch has come yet" : "no batch has come yet";
  return { kind: "waiting", word: "Waiting", detail, received: 0 };
}

/** What its installer should do something about, a sentence each. */
export function hints(entry, state) {
  const sentences = [];
  if (state.kind === "silent") {
    sentences.push("Is its program running, and does it reach the broker?");
  } else if (state.kind === "offline") {
    sentences.push("It said goodbye, or the broker lost the connection: is it switched on, and on the network?");
  }
  const skew = entry.clock_skew ?? 0;
  if (Math.abs(skew) > NOTABLE_SKEW) {
    const direction = skew > 0 ? "ahead" : "behind";
    sentences.push(`Its clock is ${age(Math.abs(skew))} ${direction}. On the camera: sudo timedatectl set-ntp true`);
  }
  if (entry.rejected_last_hour > 0) {
    const count = plural(entry.rejected_last_hour, "message was", "messages were");
    sentences.push(`${count} no valid batch in the last hour. Why: python -m emotion_daemon rejected`);
  }
  return sentences;
}
