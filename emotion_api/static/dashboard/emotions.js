/** The four emotions: their order, their names and their faces. */

import { svg } from "./dom.js";

export const EMOTIONS = ["happy", "sad", "angry", "neutral"];

export const NAMES = { happy: "Happy", sad: "Sad", angry: "Angry", neutral: "Neutral" };

const MOUTHS = {
  happy: "M5.4 11.6 Q10 17 14.6 11.6",
  sad: "M6 14.8 Q10 10.6 14 14.8",
  angry: "M6.4 14.2 H13.6 M4.8 5.4 L8.6 7.2 M15.2 5.4 L11.4 7.2",
  neutral: "M6.2 13.2 H13.8",
};

/** A face that shows the emotion by its shape, so that the colour is not needed. For the eye only. */
export function face(emotion) {
  return svg(
    "svg",
    { class: `face ${emotion}`, viewBox: "0 0 20 20", "aria-hidden": "true" },
    svg("circle", { cx: 10, cy: 10, r: 9.5 }),
    svg("circle", { class: "ink", cx: 7, cy: 8.6, r: 1.2 }),
    svg("circle", { class: "ink", cx: 13, cy: 8.6, r: 1.2 }),
    svg("path", { class: "line", d: MOUTHS[emotion] }),
  );
}

/** What part of all the time each emotion has, 0 to 1. Values may be as large as numbers get. */
export function shares(seconds) {
  const most = Math.max(...EMOTIONS.map((emotion) => seconds[emotion]));
  const parts = EMOTIONS.map((emotion) => (most > 0 ? seconds[emotion] / most : 0));
  const sum = parts.reduce((a, b) => a + b, 0);
  return Object.fromEntries(EMOTIONS.map((emotion, place) => [emotion, sum > 0 ? parts[place] / sum : 0]));
}
