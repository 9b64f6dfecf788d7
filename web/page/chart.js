// A small line over the last minutes.

import { h } from "./dom.js";
import { duration } from "./format.js";

const WIDTH = 240;
const HEIGHT = 44;
const LEAST = 60_000; // ms; the span grows until there are five minutes
const MOST = 300_000;

// spark draws samples {at, value}; gaps of more than some seconds stay gaps. say makes
// words of a value.
export function spark(label, samples, say) {
  const known = samples.filter((s) => Number.isFinite(s.at) && Number.isFinite(s.value));
  if (known.length < 2) return h("div", { class: "spark" });
  const end = known[known.length - 1].at;
  const span = Math.min(MOST, Math.max(LEAST, end - known[0].at));
  const most = known.reduce((m, s) => Math.max(m, s.value), 0);
  const x = (at) => WIDTH - ((end - at) / span) * WIDTH;
  const y = (value) => HEIGHT - 1 - (most > 0 ? value / most : 0) * (HEIGHT - 3);
  let line = "";
  let area = "";
  let from = null;
  let before = null;
  for (const s of known) {
    const point = x(s.at).toFixed(1) + " " + y(s.value).toFixed(1);
    if (before === null || s.at - before.at > 5000) {
      area += close(from, before, x);
      from = s;
      line += "M" + point;
      area += `M${x(s.at).toFixed(1)} ${HEIGHT}L${point}`;
    } else {
      line += "L" + point;
      area += "L" + point;
    }
    before = s;
  }
  area += close(from, before, x);
  return h("svg", {
    class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img",
    "aria-label": `${label} of the last minutes: at most ${say(most)}, now ${say(known[known.length - 1].value)}`,
  },
  h("title", null, `The last ${duration(span)}, at most ${say(most)}`),
  h("path", { class: "area", d: area }),
  h("path", { class: "line", d: line, "vector-effect": "non-scaling-stroke" }));
}

function close(from, before, x) {
  return from === null ? "" : `L${x(before.at).toFixed(1)} ${HEIGHT}Z`;
}
