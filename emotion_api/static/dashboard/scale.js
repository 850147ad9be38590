/** The scales of a chart: which value or time is where, and where its lines and labels are. */

import { dayName, local, time } from "./format.js";

const HOUR_SPAN = 3_600_000;
const DAY_SPAN = 24 * HOUR_SPAN;
const TIMES = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400];

/** Where the scale of `most` seconds ends, and how far apart its lines are: three to five of them. */
export function secondsScale(most) {
  return scale(most, TIMES.find((size) => most / size <= 4) ?? 10 ** Math.ceil(Math.log10(most / 4)));
}

/** The same for whole numbers, like people. */
export function countScale(most) {
  const decade = 10 ** Math.max(0, Math.floor(Math.log10(most / 4)));
  return scale(most, [1, 2, 5, 10].map((times) => times * decade).find((size) => most / size <= 4) ?? 1);
}

function scale(most, tick) {
  return { top: Math.max(tick * Math.ceil(most / tick), tick), tick };
}

/**
 * The labels below the steps, as many as there is room for: hours, or days if there are several.
 *
 * `x` gives the pixels of a time, `label` those that the label of an hour and of a day takes.
 */
export function timeLabels(steps, x, label) {
  const [begin, end] = [steps[0].start, steps.at(-1).end];
  const each = end - begin > 2.5 * DAY_SPAN ? DAY_SPAN : HOUR_SPAN;
  const room = each === DAY_SPAN ? label.day : label.hour;
  const fits = (count) => x(begin + count * each) - x(begin) >= room;
  const sizes = each === DAY_SPAN ? [1, 2, 4, 7, 14, 28] : [1, 2, 3, 4, 6, 12];
  const apart = sizes.find(fits) ?? Math.ceil((end - begin) / each);
  const first = Math.floor(local(begin) / DAY_SPAN);
  return steps.flatMap(({ start }) => {
    const clock = local(start);
    const count = each === DAY_SPAN ? Math.floor(clock / DAY_SPAN) - first : (clock % DAY_SPAN) / HOUR_SPAN;
    if (clock % each || count % apart) return [];
    return [{ at: start, room, text: each === DAY_SPAN ? dayName(start) : time(start).slice(0, 5) }];
  });
}
