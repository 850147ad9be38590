/** The history of the shown range: its totals, a chart, a comparison and a table. */

import { drawing, timeScale } from "./bars.js";
import { byId, element, setText, svg } from "./dom.js";
import { EMOTIONS, NAMES, face, shares } from "./emotions.js";
import { ZONE, dayName, duration, longDate, moment, number, percent, plural, time, weekday } from "./format.js";
import { offBy } from "./freshness.js";
import { beginOf, dayOf, daysIn } from "./range.js";
import { readout } from "./readout.js";
import { countScale, secondsScale } from "./scale.js";
import { placeOf, rowsOf, stepsOf, totalOf } from "./series.js";
import { table } from "./table.js";
import { totals } from "./totals.js";

const FAR_OFF = 3600; // seconds
const LONG_STEP = 86_400;
const QUARTER = 900_000; // milliseconds
const NEW_SINCE = "How long the camera was heard is not known for data of an earlier version.";

const CHARTS = {
  "": {
    says: "Time of each emotion, all people together.",
    parts: ({ seconds }) => EMOTIONS.map((name) => [name, seconds[name]]),
    scale: (steps) => secondsScale(Math.max(...steps.map(({ sum }) => sum))),
    label: short,
    compared: ({ sum }) => sum,
  },
  share: {
    says: "Share of each emotion in the time of all people.",
    parts: ({ seconds }) => Object.entries(shares(seconds)),
    scale: () => ({ top: 1, tick: 0.25 }),
    label: percent,
    compared: ({ seconds }) => shares(seconds).happy,
  },
  people: {
    says: "The most people at once.",
    parts: ({ people }) => [["crowd", people]],
    scale: (steps) => countScale(Math.max(...steps.map(({ people }) => people))),
    label: number,
    compared: ({ people }) => people,
  },
};

export function historyView() {
  const parts = { totals: totals(), table: table(byId("table-head"), byId("table-body")) };
  const cursor = readout(byId("cursor"), describe);
  let shown = {};
  let steps = [];
  let others = new Map();
  let names = {};

  byId("legend").append(
    ...EMOTIONS.map((emotion) => element("span", { class: "key" }, face(emotion), NAMES[emotion])),
    element("span", { id: "legend-other", class: "key" }, sample("outline"), element("span")),
    element("span", { id: "legend-unmeasured", class: "key" }, sample("unmeasured"), "Not measured"),
  );
  new ResizeObserver(draw).observe(byId("plot"));

  /**
   * Shows `history`, what the store has of the range. `view` is the one of the chart, `now` by the server's clock,
   * `skew` by how many seconds the camera's clock is ahead, `other` the name of the camera that it is compared with.
   */
  function show(history, { view, now, skew, other }) {
    const next = { ...history, view, other, at: Math.floor(now / QUARTER) };
    if (Object.entries(next).every(([name, value]) => shown[name] === value)) return;
    shown = next;
    steps = stepsOf(history.answer, now);
    names = { ...naming(history, other, now), now };
    const begin = steps[0].start;
    const theirs = history.compared ? stepsOf(history.compared, Infinity) : [];
    others = new Map(theirs.map((step) => [placeOf(step, theirs[0].start), step]));
    for (const step of steps) step.other = others.get(placeOf(step, begin));

    const total = totalOf(steps);
    setText(byId("history-title"), names.range);
    setText(byId("history-note"), note(total, skew));
    parts.totals.show(total, names.range);
    setText(byId("compared"), history.comparedProblem || comparison(steps, names));
    byId("chart").hidden = !total.sum && !total.people && !others.size && total.covered !== 0;
    setText(byId("legend-other").lastChild, view === "share" ? `${NAMES.happy} ${names.then}` : names.then);
    byId("legend").dataset.view = view;
    byId("legend-other").hidden = !others.size;
    byId("legend-unmeasured").hidden = !steps.some(({ kind }) => kind === "unmeasured");
    draw();
    cursor(steps);
    const titles = [isLong() ? "Day" : "Hour", ...EMOTIONS.map((name) => NAMES[name]), "Most at once", "Measured"];
    parts.table(titles, rowsOf(steps).map(row));
  }

  /** Says why there is nothing to show. */
  function fail(reason) {
    clear();
    setText(byId("history-note"), `The history cannot be read. ${reason}`);
  }

  function clear() {
    shown = {};
    steps = [];
    byId("chart").hidden = true;
    for (const name of ["history-note", "compared"]) setText(byId(name), "");
  }

  function draw() {
    const width = byId("plot").clientWidth;
    if (!width || !steps.length) return;
    const { parts: stack, scale, label, compared } = CHARTS[shown.view] ?? CHARTS[""];
    const all = [...steps, ...others.values()];
    const isFew = ({ sum, start, end }) => shown.view === "share" && sum < (end - start) / 100_000;
    byId("plot").querySelector("svg")?.remove();
    byId("plot").prepend(
      drawing(steps, width, {
        ...scale(all),
        parts: stack,
        label,
        outline: ({ other }) => (other && isMeasured(other) ? compared(other) : null),
        isPale: (step) => step.kind === "small" || isFew(step),
      }),
    );
    mark(steps[byId("cursor").value]);
  }

  function mark(step) {
    const x = timeScale(steps, byId("plot").clientWidth);
    const bar = byId("plot").querySelector(".mark");
    bar?.setAttribute("x", x(step?.start ?? 0));
    bar?.setAttribute("width", step ? x(step.end) - x(step.start) : 0);
  }

  /** Says what is under the cursor. */
  function describe(step) {
    const text = `${nameOf(step)}: ${sayings(step).join(", ")}`;
    setText(byId("readout"), text);
    byId("cursor").setAttribute("aria-valuetext", text);
    mark(step);
  }

  function nameOf({ start, end }) {
    return isLong() ? dayName(start) : `${moment(start, names.now)}–${time(end)}`;
  }

  function sayings({ kind, seconds, people, covered, elapsed, other }) {
    if (kind === "future") return ["not yet"];
    const some = EMOTIONS.filter((emotion) => seconds[emotion] > 0).map((name) => `${name} ${duration(seconds[name])}`);
    const said = [some.join(" · ") || (isMeasured({ kind }) ? "nothing" : "not measured")];
    if (people) said.push(`${plural(people, "person", "people")} at most`);
    if (kind === "small") said.push(`measured for ${duration(covered)} of ${duration(elapsed)} only`);
    if (other) said.push(`${names.then}: ${isMeasured(other) ? duration(other.sum) : "not measured"}`);
    return said;
  }

  const isLong = () => shown.answer.step >= LONG_STEP;

  function row(hour) {
    const head = isLong() ? dayName(hour.start) : moment(hour.start, names.now);
    const measured = hour.covered === null ? "not known" : duration(hour.covered);
    const cells = [head, ...EMOTIONS.map((emotion) => duration(hour.seconds[emotion])), number(hour.people), measured];
    return { key: hour.start, cells };
  }

  function note({ sum, people, covered }, skew) {
    const whose = Math.abs(skew) > FAR_OFF ? ` by this camera's clock, which is ${offBy(skew)}` : "";
    if (!sum && !people) {
      if (covered === 0) return `The camera was not heard${whose}: whether people were there is not known.`;
      return `Nothing was shown${whose}.`;
    }
    const whole = whose ? ` Times are those${whose}.` : "";
    const since = covered === null ? ` ${NEW_SINCE}` : "";
    return `${(CHARTS[shown.view] ?? CHARTS[""]).says}${whole} Time zone: ${ZONE}.${since}`;
  }

  return { show, fail, clear };
}

/** The names of the range and of what it is compared with. */
function naming({ days, compare }, other, now) {
  const [begin, last] = [beginOf(days.from), beginOf(days.to)];
  const single = daysIn(days) === 1;
  const range = single ? longDate(begin) : `${longDate(begin)} to ${longDate(last)}`;
  if (compare !== "week") return { range, then: other ?? "" };
  if (!single) return { range, then: "the week before" };
  const isToday = days.to === dayOf(now);
  return { range, then: isToday ? `last ${weekday(begin)}` : `the ${weekday(begin)} before` };
}

const isMeasured = ({ kind }) => kind !== "unmeasured";

/** How much more or less was shown than in the compared time: in steps that passed and were measured both times. */
function comparison(steps, { then }) {
  const passed = steps.filter(({ other, elapsed, start, end }) => other && elapsed * 1000 >= end - start);
  if (!passed.length) return "";
  const until = passed.length < steps.length ? ` until ${time(passed.at(-1).end)}` : "";
  const heard = passed.filter(isMeasured);
  const both = heard.filter(({ other }) => isMeasured(other));
  if (!both.length) {
    if (heard.length && passed.some(({ other }) => isMeasured(other))) return "Nothing was measured both times.";
    return `The camera was not heard${heard.length ? ` ${then}${until}` : ""}.`;
  }
  const [mine, theirs] = [totalOf(both), totalOf(both.map(({ other }) => other))];
  if (!theirs.sum) return `Nothing was shown ${then}${until}.`;
  const isKnown = mine.covered && theirs.covered;
  const change = (mine.sum / theirs.sum) * (isKnown ? theirs.covered / mine.covered : 1) - 1;
  const much = Math.round(Math.abs(change) * 100);
  const words = much ? `${number(much)} % ${change > 0 ? "more" : "less"} than` : "As much as";
  const average = ({ sum, covered }) => (sum / covered).toFixed(1);
  const people = isKnown ? `, on average ${average(mine)} instead of ${average(theirs)} people` : "";
  return `${words} ${then}${until}${people}.`;
}

function short(seconds) {
  if (!seconds) return "0";
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${seconds / 60} min`;
  return seconds <= 3600e4 ? `${Math.round(seconds / 360) / 10} h` : "many h";
}

/** A small picture of what a line or an area of the chart looks like. */
function sample(name) {
  const line = svg("path", { class: "outline", d: "M1 10H19" });
  const area = svg("rect", { class: name, x: 1, y: 1, width: 18, height: 18 });
  return svg("svg", { class: "sample", viewBox: "0 0 20 20", "aria-hidden": "true" }, name === "outline" ? line : area);
}
