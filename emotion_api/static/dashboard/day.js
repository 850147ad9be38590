/** What the overview tells of a camera's day: how busy, in which mood, and compared with a week before. */

import { EMOTIONS, NAMES, shares } from "./emotions.js";
import { percent, weekday } from "./format.js";

/** Seconds of all people together below which shares and comparisons say little. */
const FEW_SECONDS = 60;
const SMALL_SAMPLE = 600;

export function total({ seconds }) {
  return Math.min(EMOTIONS.reduce((sum, emotion) => sum + seconds[emotion], 0), Number.MAX_VALUE);
}

/** The share of an emotion; -1 if there is too little to tell. */
export function shareOf({ seconds, ...day }, emotion) {
  return total({ seconds, ...day }) < FEW_SECONDS ? -1 : shares(seconds)[emotion];
}

/** The share of an emotion, or of the one with the largest, like "Happy 62 %". `isSmall`: the sample is. */
export function moodOf(day, wanted) {
  const sum = total(day);
  if (!sum) return { text: day.covered === 0 ? "not measured" : "no one today", isSmall: true };
  const share = shares(day.seconds);
  const emotion = wanted ?? EMOTIONS.reduce((most, each) => (share[each] > share[most] ? each : most));
  return { text: `${NAMES[emotion]} ${percent(share[emotion])}`, isSmall: sum < FEW_SECONDS };
}

/** How much busier the day is than the same weekday before, like "+12 %". `isSmall`: that day says little. */
export function changeOf({ today, before }) {
  const [now, then] = [total(today), total(before)];
  if (then < FEW_SECONDS || today.covered === 0) return { text: "", isSmall: true };
  const change = Math.round((now / then - 1) * 100);
  const sign = change > 0 ? "+" : change < 0 ? "−" : "±";
  const text = change > 999 ? ">+999 %" : `${sign}${Math.abs(change)} %`;
  return { text, isSmall: then < SMALL_SAMPLE };
}

/** The day before by its name: "last Friday". */
export function dayBefore(overview) {
  return `last ${weekday(Date.parse(overview.before))}`;
}
