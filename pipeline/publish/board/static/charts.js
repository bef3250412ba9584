// The charts of a pool's page.

import { chartData, latencyData, pastData } from "./fan.js";
import { known, rate } from "./format.js";
import { HOVER, band, colours, line, plot, span, spikeTrace, vertical } from "./plot.js";

// How sure the median is, for whoever points at it.
const sure = (fan) => ({ customdata: fan.map((f) => [rate(f.q05), rate(f.q95)]),
  hovertemplate: `${HOVER} (5–95 %: %{customdata[0]} to %{customdata[1]})` });

export function drawDemand(element, pool, signal, reach, now) {
  const drawn = chartData(pool, signal, reach, now);
  const c = colours();
  const traces = [
    ...band("5–95 %", drawn.fan, "q05", "q95", c.outer),
    ...band("25–75 %", drawn.fan, "q25", "q75", c.inner),
    line("capacity now", drawn.capacity, { line: { color: c.capacity, width: 1.5, shape: "hv" } }),
    line("recommended capacity", drawn.recommended, { line: { color: c.recommended, width: 1.75, shape: "hv" } }),
    line("forecast median", drawn.fan.map((f) => [f.at, f.q50]), { line: { color: c.forecast, width: 2, dash: "dash" }, ...sure(drawn.fan) }),
    line("demand", drawn.actual, { line: { color: c.demand, width: 1.75 } }),
    spikeTrace(drawn.spikes, drawn.top, c),
  ];
  const events = drawn.announced.map((e) => span(e.from, e.until, c.onset));
  const shapes = drawn.spikes.map((s) => vertical(s.at, s.kind === "observed"
    ? { color: c.observed, width: 1.5 } : { color: c.onset, width: 1.5, dash: "dash" }));
  const done = plot(element, traces, { from: drawn.from, until: drawn.until, top: drawn.top, now, shapes: [...events, ...shapes] });
  return { drawn, done };
}

export function drawPast(element, past, pool, signal, now) {
  const drawn = pastData(past, pool.windows, signal, now);
  const c = colours();
  const traces = [
    ...band("5–95 %, as forecast then", drawn.fan, "q05", "q95", c.inner),
    line("median, as forecast then", drawn.fan.map((f) => [f.at, f.q50]), { line: { color: c.forecast, width: 2, dash: "dash" }, ...sure(drawn.fan) }),
    line("what came", drawn.actual, { line: { color: c.demand, width: 1.75 } }),
  ];
  return { drawn, done: plot(element, traces, { from: drawn.from, until: drawn.until }) };
}

export function drawLatency(element, name, pool, now) {
  const drawn = latencyData(name, pool, now);
  const c = colours();
  const traces = [
    line("predicted at the planned load", drawn.predicted, { line: { color: c.forecast, width: 1.75, dash: "dash", shape: "hv" } }),
    line(`observed ${drawn.percentile}`, drawn.observed, { line: { color: c.demand, width: 1.75 } }),
  ];
  const shapes = [];
  if (known(drawn.objective)) {
    traces.push(line("objective", [[drawn.from, drawn.objective], [drawn.until, drawn.objective]],
      { line: { color: c.observed, width: 1.5 } }));
  }
  return { drawn, done: plot(element, traces, { from: drawn.from, until: drawn.until, shapes, unit: "s" }) };
}
