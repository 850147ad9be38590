/** The points of a history as steps of time, and what they add up to. */

import { EMOTIONS } from "./emotions.js";
import { local } from "./format.js";

const LATE = 10; // seconds by which a camera's newest batch may be behind

/**
 * The steps of a history. `covered`: for how many seconds the camera was heard, null if that is not known; `elapsed`:
 * how many seconds of the step have passed. `kind`: future, unmeasured, small (measured for less than half of the
 * time), or "".
 */
export function stepsOf({ points, end }, now) {
  return points.map((point, place) => {
    const start = Date.parse(point.start);
    const step = {
      start,
      end: Date.parse(points[place + 1]?.start ?? end),
      seconds: point,
      sum: sumOf(point),
      people: point.most_people,
      covered: point.covered ?? null,
    };
    step.elapsed = Math.max(0, Math.min(step.end, now) - start) / 1000;
    return { ...step, kind: kindOf(step) };
  });
}

function kindOf({ sum, people, covered, elapsed }) {
  if (!elapsed && !sum) return "future";
  if (covered === null) return "";
  if (!covered && !sum && !people && elapsed > LATE) return "unmeasured";
  return covered < elapsed / 2 - LATE ? "small" : "";
}

/** What steps add up to: one step, as long as all of them. */
export function totalOf(steps) {
  const seconds = Object.fromEntries(EMOTIONS.map((name) => [name, plus(steps.map((step) => step.seconds[name]))]));
  const known = steps.filter((step) => step.kind !== "future");
  const covered = known.some((step) => step.covered === null) ? null : plus(known.map((step) => step.covered));
  return {
    start: steps[0]?.start,
    end: steps.at(-1)?.end,
    seconds,
    sum: sumOf(seconds),
    people: Math.max(0, ...steps.map((step) => step.people)),
    covered,
    elapsed: plus(steps.map((step) => step.elapsed)),
  };
}

/** The steps in which people were seen, added up by the hour of the clock if they are shorter. The newest first. */
export function rowsOf(steps) {
  const found = new Map();
  for (const step of steps) {
    if (!step.people && !step.sum) continue;
    const hour = hourOf(step.start);
    found.set(hour, [...(found.get(hour) ?? []), step]);
  }
  return [...found].map(([start, each]) => ({ ...totalOf(each), start })).reverse();
}

/** When the hour of the clock began: the two hours of a clock change that have one name stay two. */
function hourOf(milliseconds) {
  return milliseconds - (local(milliseconds) % 3_600_000);
}

/** Where a step is in its range by the site's clock: for a comparison with a range of other days. */
export function placeOf(step, begin) {
  return local(step.start) - local(begin);
}

const plus = (numbers) => Math.min(numbers.reduce((a, b) => a + b, 0), Number.MAX_VALUE);

const sumOf = (seconds) => plus(EMOTIONS.map((emotion) => seconds[emotion]));
