/** The last 24 hours: for each quarter of an hour the time of each emotion, as a chart and as a table. */

import { byId, element, setText, svg } from "./dom.js";
import { EMOTIONS, NAMES, face } from "./emotions.js";
import { duration, hourOf, moment, plural, time } from "./format.js";
import { offBy } from "./freshness.js";

export const STEP = 900; // seconds; 96 columns are legible on a phone, too

const FAR_OFF = 3600; // seconds
const EXPLANATION = "Time of each emotion in each quarter of an hour, all people together.";

const HEIGHT = 200;
const MARGIN = { top: 8, right: 4, bottom: 22, left: 52 };
const TICKS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400];

export function chart() {
  const cursor = byId("cursor");
  let points = [];
  let now = 0;

  byId("legend").append(...EMOTIONS.map((emotion) => element("span", {}, face(emotion), NAMES[emotion])));
  const titles = ["Hour", ...EMOTIONS.map((emotion) => NAMES[emotion]), "Most at once"];
  byId("table-head").append(...titles.map((title) => element("th", { scope: "col" }, title)));
  cursor.addEventListener("input", point);
  cursor.addEventListener("pointermove", (event) => {
    const box = cursor.getBoundingClientRect();
    cursor.value = Math.floor(((event.clientX - box.left) / box.width) * points.length);
    point();
  });
  new ResizeObserver(draw).observe(byId("plot"));

  /** Shows what /api/dashboard/history answered. `skew`: by how many seconds the camera's clock is ahead. */
  function show(history, milliseconds, skew) {
    const atNewest = Number(cursor.value) === Number(cursor.max);
    points = history.points;
    now = milliseconds;
    const empty = points.every((each) => sum(each) === 0);
    byId("chart").hidden = empty;
    setText(byId("history-note"), empty ? nothing(skew) : EXPLANATION);
    if (empty) return;
    cursor.max = points.length - 1;
    if (atNewest) cursor.value = cursor.max;
    draw();
    byId("table-body").replaceChildren(...hours(points).map((hour) => row(hour, now)));
  }

  /** Says why there is nothing to show. */
  function fail(reason) {
    clear();
    setText(byId("history-note"), `The history cannot be read. ${reason}`);
  }

  function clear() {
    points = [];
    byId("chart").hidden = true;
    setText(byId("history-note"), "");
  }

  function draw() {
    const width = byId("plot").clientWidth;
    if (!width || !points.length) return;
    byId("plot").querySelector("svg")?.remove();
    byId("plot").prepend(drawing(points, width));
    point();
  }

  /** Says what is under the cursor. */
  function point() {
    const place = Number(cursor.value);
    const each = points[place];
    if (!each) return;
    const start = Date.parse(each.start);
    const shown = EMOTIONS.filter((emotion) => each[emotion] > 0);
    const some = shown.map((emotion) => `${emotion} ${duration(each[emotion])}`);
    const crowd = each.most_people ? `, ${plural(each.most_people, "person", "people")} at most` : "";
    const text = `${moment(start, now)}–${time(start + STEP * 1000)}: ${some.join(" · ") || "nothing"}${crowd}`;
    setText(byId("readout"), text);
    cursor.setAttribute("aria-valuetext", text);
    const mark = byId("plot").querySelector(".mark");
    const inner = byId("plot").clientWidth - MARGIN.left - MARGIN.right;
    mark?.setAttribute("x", MARGIN.left + (place * inner) / points.length);
  }

  return { show, fail, clear };
}

function nothing(skew) {
  const whose = Math.abs(skew) > FAR_OFF ? ` by this camera's clock, which is ${offBy(skew)}` : "";
  return `Nothing was shown in the last 24 hours${whose}.`;
}

function drawing(points, width) {
  const inner = { width: width - MARGIN.left - MARGIN.right, height: HEIGHT - MARGIN.top - MARGIN.bottom };
  const { top, tick } = scale(Math.max(...points.map(sum)));
  const y = (seconds) => MARGIN.top + inner.height * (1 - seconds / top);
  const step = inner.width / points.length;
  const bar = Math.max(step - (step > 5 ? 1.5 : 0.5), 1);
  const picture = svg("svg", { width, height: HEIGHT, "aria-hidden": "true" });

  picture.append(svg("rect", { class: "mark", x: MARGIN.left, y: MARGIN.top, width: step, height: inner.height }));
  for (let line = 0; line <= top * 1.0001; line += tick) {
    picture.append(
      svg("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: y(line), y2: y(line) }),
      svg("text", { x: MARGIN.left - 6, y: y(line) + 4, "text-anchor": "end" }, line ? short(line) : "0"),
    );
  }
  points.forEach((each, place) => {
    let below = 0;
    for (const emotion of EMOTIONS) {
      if (!(each[emotion] > 0)) continue;
      const above = below + each[emotion];
      const x = MARGIN.left + place * step;
      picture.append(svg("rect", { class: emotion, x, y: y(above), width: bar, height: y(below) - y(above) }));
      below = above;
    }
  });
  picture.append(...labels(points, step, width));
  return picture;
}

/** The hours below the chart, as many as there is room for. */
function labels(points, step, width) {
  const apart = [1, 2, 3, 4, 6, 12].find((hours) => (hours * 3600 * step) / STEP >= 52) ?? 12;
  return points.flatMap((each, place) => {
    const name = time(Date.parse(each.start));
    const [hour, minute] = name.split(/[: ]/).map(Number);
    const x = MARGIN.left + place * step;
    if (minute || hour % apart || x > width - 18 || x < MARGIN.left + 12) return [];
    return [
      svg("line", { class: "grid", x1: x, x2: x, y1: HEIGHT - MARGIN.bottom, y2: HEIGHT - MARGIN.bottom + 4 }),
      svg("text", { x, y: HEIGHT - 5, "text-anchor": "middle" }, name.slice(0, 5)),
    ];
  });
}

/** Where the scale ends, and how far apart its lines are: three to five of them. */
function scale(most) {
  const tick = TICKS.find((size) => most / size <= 4) ?? 10 ** Math.ceil(Math.log10(most / 4));
  return { top: Math.max(tick * Math.ceil(most / tick), tick), tick };
}

function short(seconds) {
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${seconds / 60} min`;
  return seconds <= 3600e4 ? `${Math.round(seconds / 360) / 10} h` : "many h";
}

function sum(each) {
  return Math.min(EMOTIONS.reduce((seconds, emotion) => seconds + each[emotion], 0), Number.MAX_VALUE);
}

/** The quarters of an hour, added up by the local hour; hours in which nothing was shown are left out. Newest first. */
export function hours(points) {
  const found = new Map();
  for (const each of points) {
    if (!each.most_people && !sum(each)) continue;
    const start = hourOf(Date.parse(each.start));
    const hour = found.get(start) ?? { start, happy: 0, sad: 0, angry: 0, neutral: 0, most_people: 0 };
    for (const emotion of EMOTIONS) hour[emotion] += each[emotion];
    hour.most_people = Math.max(hour.most_people, each.most_people);
    found.set(start, hour);
  }
  return [...found.values()].reverse();
}

function row(hour, now) {
  const cells = [...EMOTIONS.map((emotion) => duration(hour[emotion])), String(hour.most_people)];
  const head = element("th", { scope: "row" }, moment(hour.start, now));
  return element("tr", {}, head, ...cells.map((text) => element("td", {}, text)));
}
