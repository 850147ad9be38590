/** The hours of a day as a small picture, without scale: when it was busy, and when it was not. */

import { svg } from "./dom.js";

const LINE_HEIGHT = 20;

/** A picture of as many bars as `set` gets values. It is redrawn only for other values. */
export function sparkline() {
  const path = svg("path");
  const node = svg("svg", { class: "sparkline", preserveAspectRatio: "none", "aria-hidden": "true" }, path);
  let shown = "";
  return {
    node,
    set(values) {
      const key = values.join();
      if (key === shown) return;
      shown = key;
      const most = Math.max(...values, 1);
      const bars = values.map((value, place) => {
        const height = value > 0 ? Math.max((value / most) * LINE_HEIGHT, 1) : 0;
        return height && `M${place} ${LINE_HEIGHT}v${-height.toFixed(1)}h.8v${height.toFixed(1)}z`;
      });
      node.setAttribute("viewBox", `0 0 ${values.length} ${LINE_HEIGHT}`);
      path.setAttribute("d", bars.filter(Boolean).join(""));
    },
  };
}
