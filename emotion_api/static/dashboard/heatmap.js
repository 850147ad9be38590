/** A typical week: the last 28 days of a camera by weekday and hour, as a table with coloured cells. */

import { byId, element, setText } from "./dom.js";
import { EMOTIONS, NAMES, shares } from "./emotions.js";
import { ZONE, local, number, percent } from "./format.js";
import { stepsOf, totalOf } from "./series.js";

const HOUR_LENGTH = 3_600_000;
const HOURS = Array.from({ length: 24 }, (_, hour) => `${hour}`.padStart(2, "0"));
const WEEKDAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const THURSDAY = 3; // 1 January 1970
const FEW = { heard: 1800, seen: 60 }; // seconds in all weeks
const MOST = { "": "Most people", happy: "Happiest", sad: "Saddest", angry: "Angriest", neutral: "Most neutral" };
const KINDS = { unmeasured: " not measured", small: " small sample" };

/**
 * What the steps, of an hour or less, add up to by what the site's calendar and clock show: 168 cells, Monday's first. An
 * hour that comes twice at a clock change counts twice, and one that is skipped not at all. `kind`: unmeasured, small, or "".
 */
export function weekOf(steps) {
  const cells = Array.from({ length: WEEKDAYS.length * HOURS.length }, () => []);
  for (const step of steps) {
    if (step.kind === "future" || step.kind === "unmeasured") continue;
    cells[(Math.floor(local(step.start) / HOUR_LENGTH) + THURSDAY * HOURS.length) % cells.length].push(step);
  }
  return cells.map((each) => {
    const total = totalOf(each);
    const isSmall = total.covered !== null && total.covered < FEW.heard;
    return { ...total, people: average(each), kind: !each.length ? "unmeasured" : isSmall ? "small" : "" };
  });
}

/** The most people at once, on average: a step counts as long as the camera was heard, or else as long as it took. */
function average(steps) {
  const weight = ({ covered, elapsed }) => covered || elapsed;
  const all = steps.reduce((sum, step) => sum + weight(step), 0);
  return steps.reduce((sum, step) => sum + (step.people * weight(step)) / all, 0);
}

/** `choose` is called with an emotion, or "" for people. */
export function heatmap(choose) {
  const select = byId("week-of");
  const nodes = WEEKDAYS.flatMap((weekday) => {
    const row = HOURS.map(() => element("td", {}, element("span"), element("span", { class: "unseen" })));
    byId("week-body").append(element("tr", {}, element("th", { scope: "row" }, weekday), ...row));
    return row;
  });
  let shown = {};
  let isScrolled = false;

  select.append(element("option", { value: "" }, "People"));
  select.append(...EMOTIONS.map((emotion) => element("option", { value: emotion }, `${NAMES[emotion]} share`)));
  select.addEventListener("change", () => choose(select.value));
  byId("week-head").append(element("td"), ...HOURS.map((hour) => element("th", { scope: "col" }, hour)));

  /** Shows a history of hours. `wanted`: an emotion, or "" for people; `now` by the server's clock. */
  function show(history, wanted, now) {
    const mode = wanted in NAMES ? wanted : "";
    if (shown.history === history && shown.mode === mode) return;
    shown = { history, mode };
    const week = weekOf(stepsOf(history, now)).map((cell, place) => {
      const kind = cell.kind || (mode && cell.sum < FEW.seen ? "small" : "");
      const value = !mode ? cell.people : cell.sum ? shares(cell.seconds)[mode] : null;
      return { place, kind, value: kind === "unmeasured" ? null : value };
    });
    const sure = week.filter(({ kind, value }) => value && !kind).sort((a, b) => b.value - a.value);
    const top = sure[0]?.value ?? 0;
    const text = (value) => (mode ? percent(value) : value && value < 9.95 ? value.toFixed(1) : number(Math.round(value)));
    const isEmpty = week.every(({ value }) => !value);
    const what = mode ? `The ${mode} share of all people's time` : "The most people at once in an hour, on average";
    byId("week").setAttribute("aria-busy", false);
    byId("week-shown").hidden = isEmpty;
    setText(byId("week-note"), isEmpty ? "No people were seen in the last 28 days." : `${what}, in the last 28 days.`);
    setText(byId("week-caption"), `${what}, by weekday and hour. Time zone: ${ZONE}`);
    const named = sure.slice(0, 3).map(({ place, value }) => `${nameOf(place)} (${text(value)})`);
    setText(byId("week-most"), named.length ? `${MOST[mode]}: ${named.join(", ")}.` : "");
    setText(byId("week-top"), text(top));
    select.value = mode;
    for (const kind in KINDS) byId(`week-${kind}`).hidden = !week.some((cell) => cell.kind === kind);
    for (const { place, kind, value } of week) {
      const node = nodes[place];
      node.className = kind;
      node.style.setProperty("--part", value && !kind ? value / top : 0);
      setText(node.firstChild, value === null ? "–" : text(value).replace(" %", ""));
      setText(node.lastChild, KINDS[kind] ?? "");
    }
    if (isScrolled || !top) return;
    isScrolled = true; // on a phone there is no room for the night
    const first = Math.min(...sure.map(({ place }) => place % HOURS.length));
    byId("week-scroll").scrollLeft = nodes[first].offsetLeft - nodes[0].offsetLeft;
  }

  function clear() {
    shown = {};
    isScrolled = false;
    byId("week").setAttribute("aria-busy", true);
  }

  return { show, clear };
}

function nameOf(place) {
  const hour = place % HOURS.length;
  return `${WEEKDAYS[Math.floor(place / HOURS.length)]} ${HOURS[hour]}:00–${HOURS[(hour + 1) % HOURS.length]}:00`;
}
