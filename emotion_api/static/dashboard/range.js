/** Days of the site, written 2025-11-30, and the ranges of them that the address may name. */

import { ZONE, local } from "./format.js";

const DAY_LENGTH = 86_400_000;
const HOUR_STEP = 3600;
const NAMED = { "7d": 7, "28d": 28 };
const DATES = /^(\d{4}-\d\d-\d\d)\.\.(\d{4}-\d\d-\d\d)$/;

export const dayOf = (milliseconds) => written(local(milliseconds));
export const addDays = (day, count) => written(Date.parse(day) + count * DAY_LENGTH);
export const daysIn = ({ from, to }) => Math.round((Date.parse(to) - Date.parse(from)) / DAY_LENGTH) + 1;

function written(milliseconds) {
  return new Date(milliseconds).toISOString().slice(0, 10);
}

/** When a day begins. At a clock change midnight may be missing, or come twice. */
export function beginOf(day) {
  const midnight = Date.parse(day);
  const begins = [-DAY_LENGTH, DAY_LENGTH].map((aside) => midnight + midnight + aside - local(midnight + aside));
  return begins.find((begin) => dayOf(begin) === day && dayOf(begin - 1) !== day) ?? begins[1];
}

/** The first and the last day of a range in an address. What is no range is today. */
export function daysOf(range, today) {
  const [, first, last] = DATES.exec(range) ?? [];
  if (isDay(first) && isDay(last) && first <= last) return { from: first, to: last };
  if (range === "yesterday") return { from: addDays(today, -1), to: addDays(today, -1) };
  return { from: addDays(today, 1 - (NAMED[range] ?? 1)), to: today };
}

/** The shortest name of a range for an address. */
export function rangeOf({ from, to }, today) {
  const count = daysIn({ from, to });
  if (to === today && count === 1) return "today";
  if (to === addDays(today, -1) && count === 1) return "yesterday";
  const named = Object.keys(NAMED).find((name) => NAMED[name] === count);
  return to === today && named ? named : `${from}..${to}`;
}

export const shifted = ({ from, to }, count) => ({ from: addDays(from, count), to: addDays(to, count) });

/** The parameters of the history of these days, until `latest` at most: the more days, the longer the steps. */
export function parametersOf(device, days, latest = Infinity) {
  const count = daysIn(days);
  const ends = [beginOf(days.from), Math.min(beginOf(addDays(days.to, 1)), latest)];
  const [start, end] = ends.map((each) => new Date(each).toISOString());
  const step = count <= 2 ? HOUR_STEP / 4 : count <= 10 ? HOUR_STEP : count <= 400 ? "day" : "week";
  return { device_id: device, start, end, step, tz: ZONE };
}

/** A day that the API takes. */
function isDay(text) {
  const begin = Date.parse(text ?? "");
  return begin > 0 && begin < Date.parse("8999-01-01") && written(begin) === text;
}
