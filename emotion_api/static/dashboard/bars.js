/** Draws steps of time as stacked bars: hatched where nothing was measured, pale where little was. */

import { svg } from "./dom.js";
import { timeLabels } from "./scale.js";

const HEIGHT = 200;
const LABEL = { hour: 58, day: 84 }; // pixels that a label below takes

export const MARGIN = { top: 8, right: 4, bottom: 22, left: 52 };

/**
 * The picture of `steps`, `width` pixels wide. `parts` gives the parts of a step's bar from the bottom up, pairs of a
 * class and a value; `top` and `tick` are the scale of the values, `label` their text. `outline` gives the value with
 * which a step is compared, or null; `isPale` tells whether little was measured.
 */
export function drawing(steps, width, { parts, top, tick, label, outline, isPale }) {
  const x = timeScale(steps, width);
  const inner = HEIGHT - MARGIN.top - MARGIN.bottom;
  const y = (value) => MARGIN.top + inner * (1 - value / top);
  const picture = svg("svg", { width, height: HEIGHT, "aria-hidden": "true" }, hatch());
  const bars = svg("g");
  let line = "";
  let isGap = true;
  picture.append(svg("rect", { class: "mark", y: MARGIN.top, height: inner }));
  for (let value = 0; value <= top * 1.0001; value += tick) {
    picture.append(
      svg("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: y(value), y2: y(value) }),
      svg("text", { x: MARGIN.left - 6, y: y(value) + 4, "text-anchor": "end" }, label(value)),
    );
  }
  for (const step of steps) {
    const [left, right] = [x(step.start), x(step.end)];
    const wide = right - left;
    if (step.kind === "unmeasured") {
      bars.append(svg("rect", { class: "unmeasured", x: left, y: MARGIN.top, width: wide, height: inner }));
    }
    const bar = Math.max(wide - (wide > 5 ? 1.5 : wide > 2 ? 0.5 : 0), 1);
    let below = 0;
    for (const [name, value] of parts(step)) {
      if (!(value > 0)) continue;
      const box = { x: left, y: y(below + value), width: bar, height: y(below) - y(below + value) };
      bars.append(svg("rect", { class: isPale(step) ? `${name} pale` : name, ...box }));
      below += value;
    }
    const compared = outline(step);
    if (compared !== null) line += `${isGap ? "M" : "L"}${left} ${y(compared)}H${right}`;
    isGap = compared === null;
  }
  picture.append(bars);
  if (line) picture.append(svg("path", { class: "outline", d: line }));
  for (const { at, text, room } of timeLabels(steps, x, LABEL)) {
    const floor = HEIGHT - MARGIN.bottom;
    picture.append(svg("line", { class: "grid", x1: x(at), x2: x(at), y1: floor, y2: floor + 4 }));
    if (x(at) > width - room / 2) continue;
    const begins = x(at) < MARGIN.left + room / 3;
    const place = { x: begins ? MARGIN.left - 12 : x(at), "text-anchor": begins ? "start" : "middle" };
    picture.append(svg("text", { ...place, y: HEIGHT - 5 }, text));
  }
  return picture;
}

/** From a time to pixels. */
export function timeScale(steps, width) {
  const [begin, end] = [steps[0].start, steps.at(-1).end];
  return (at) => MARGIN.left + ((at - begin) / (end - begin)) * (width - MARGIN.left - MARGIN.right);
}

function hatch() {
  const pattern = { id: "hatch", width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" };
  return svg("defs", {}, svg("pattern", pattern, svg("rect", { class: "stripe", width: 2, height: 6 })));
}
