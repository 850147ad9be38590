/** How long all people of a camera have shown each emotion, as a stacked bar with its legend. */

import { byId, element, setText } from "./dom.js";
import { EMOTIONS, NAMES, face, shares } from "./emotions.js";
import { duration, percent } from "./format.js";

/** A stacked bar; `set` gives each emotion its part. */
export function stackedBar(bar) {
  const parts = Object.fromEntries(EMOTIONS.map((emotion) => [emotion, element("span", { class: emotion })]));
  bar.append(...EMOTIONS.map((emotion) => parts[emotion]));
  const shown = {};
  return {
    set(seconds) {
      for (const [emotion, share] of Object.entries(shares(seconds))) {
        if (share === shown[emotion]) continue; // a style that is set again is laid out again
        shown[emotion] = share;
        parts[emotion].style.flexGrow = share;
        parts[emotion].hidden = share === 0;
      }
    },
  };
}

export function totals() {
  const bar = stackedBar(byId("totals-bar"));
  const rows = Object.fromEntries(EMOTIONS.map((emotion) => [emotion, row(emotion)]));
  byId("totals-list").append(...EMOTIONS.map((emotion) => rows[emotion].node));
  return {
    /** Shows what the steps of the range add up to. */
    show({ seconds, sum, covered, elapsed }, range) {
      setText(byId("totals-range"), range);
      bar.set(seconds);
      for (const [emotion, share] of Object.entries(shares(seconds))) {
        setText(rows[emotion].time, duration(seconds[emotion]));
        setText(rows[emotion].share, percent(share));
      }
      setText(byId("totals-measured"), measured(sum, covered, elapsed));
    },
  };
}

/** How many people there were on average while the camera was heard. */
function measured(sum, covered, elapsed) {
  if (!covered) return "";
  const average = `On average ${(sum / covered).toFixed(1)} people in view`;
  const part = covered / elapsed;
  return part < 0.95 ? `${average}, measured ${percent(part)} of the time` : average;
}

function row(emotion) {
  const time = element("span", { class: "time" });
  const share = element("span", { class: "share" });
  return { node: element("li", {}, face(emotion), element("span", {}, NAMES[emotion]), time, share), time, share };
}
