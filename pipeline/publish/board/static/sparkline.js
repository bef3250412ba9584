// A pool's demand and forecast in one small drawing: what was, the median and the 0.95 quantile of what comes, and what
// the running replicas carry.

import { set, svg } from "./dom.js";
import { known, rate } from "./format.js";

const WIDTH = 240, HEIGHT = 40;
const PARTS = ["band", "capacity", "now", "median", "demand"];

export function sparkline() {
  const parts = Object.fromEntries(PARTS.map((name) => [name, svg("path", { class: `spark-${name}` })]));
  const element = svg("svg", {
    class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img",
  }, ...PARTS.map((name) => parts[name]));
  return { element, draw: (row) => draw(parts, row), label: (row) => set(element, "aria-label", label(row)) };
}

function draw(parts, row) {
  const demand = points(row.demand);
  const last = [...demand].reverse().find((point) => known(point[1]));
  const forecast = row.forecast;
  const from = demand.length ? demand[0][0] : 0;
  const until = Math.max(forecast.length ? forecast.at(-1)[0] : 0, demand.length ? demand.at(-1)[0] : 0);
  const highest = Math.max(0, ...demand.map((p) => p[1] ?? 0), ...forecast.map((f) => f[2])) * 1.08 || 1;
  const capacity = row.capacity_requests_per_second;
  const shown = known(capacity) && capacity < 2 * highest;
  const top = shown ? Math.max(highest, 1.05 * capacity) : highest;
  const x = (at) => round(until > from ? (WIDTH * (at - from)) / (until - from) : 0);
  const y = (value) => round(HEIGHT - 1 - ((HEIGHT - 2) * value) / top);
  const fan = last && forecast.length ? [[last[0], last[1], last[1]], ...forecast] : forecast;
  set(parts.demand, "d", line(demand, x, y));
  set(parts.median, "d", line(fan.map((f) => [f[0], f[1]]), x, y));
  set(parts.band, "d", fan.length < 2 ? "" : `${line(fan.map((f) => [f[0], f[2]]), x, y)}${
    [...fan].reverse().map((f) => `L${x(f[0])} ${y(f[1])}`).join("")}Z`);
  set(parts.capacity, "d", shown ? `M0 ${y(capacity)}H${WIDTH}` : "");
  set(parts.now, "d", last && fan.length > 1 ? `M${x(last[0])} 0V${HEIGHT}` : "");
}

// A step's mean stands in its middle.
function points(demand) {
  if (!demand) return [];
  const values = demand.requests_per_second;
  const first = values.findIndex(known);
  if (first < 0) return [];
  return values.map((value, i) => [demand.start + (i + 0.5) * demand.step_seconds, value]);
}

function line(found, x, y) {
  let path = "", open = false;
  for (const [at, value] of found) {
    if (!known(value)) open = false;
    else {
      path += `${open ? "L" : "M"}${x(at)} ${y(value)}`;
      open = true;
    }
  }
  return path;
}

const round = (value) => Math.round(10 * value) / 10;

function label({ forecast, capacity_requests_per_second: capacity, ...row }) {
  const parts = [`demand ${rate(row.requests_per_second)} requests/s`];
  if (forecast.length) parts.push(`forecast ${rate(forecast.at(-1)[1])}, at most about ${rate(forecast.at(-1)[2])}`);
  if (known(capacity)) parts.push(`running replicas carry ${rate(capacity)}`);
  return parts.join("; ");
}
