// Draws charts with Plotly, which is fetched when the first chart is; colours are those of the theme.

import { el } from "./dom.js";

let loading = null;

export function plotly() {
  loading ??= new Promise((resolve, reject) => {
    const script = el("script", { src: "/static/plotly.min.js" });
    script.addEventListener("load", () => resolve(window.Plotly));
    script.addEventListener("error", () => {
      loading = null;
      reject(new Error("the charts could not be loaded"));
    });
    document.head.append(script);
  });
  return loading;
}

export function colours() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(`--${name}`).trim();
  return {
    demand: of("demand"), forecast: of("blue"), inner: of("band"), outer: of("band-outer"), capacity: of("grey"),
    recommended: of("green"), observed: of("red"), onset: of("amber"), grid: of("grid"), muted: of("muted"),
    panel: of("panel"), raised: of("raised"), line: of("line"), text: of("text"),
  };
}

const date = (seconds) => new Date(seconds * 1000);
export const HOVER = "%{y}"; // until the size of what is drawn is known

export function line(name, points, style) {
  return {
    name, type: "scatter", mode: "lines", x: points.map((p) => date(p[0])), y: points.map((p) => p[1]),
    hovertemplate: HOVER, connectgaps: false, ...style,
  };
}

// Two traces: an invisible lower edge, and the upper edge filled down to it.
export function band(name, fan, low, high, colour) {
  const edge = { line: { width: 0 }, hoverinfo: "skip", hovertemplate: undefined };
  return [
    line(`${name} lower`, fan.map((f) => [f.at, f[low]]), edge),
    line(name, fan.map((f) => [f.at, f[high]]), { ...edge, fill: "tonexty", fillcolor: colour }),
  ];
}

export const vertical = (at, style) => ({
  type: "line", xref: "x", yref: "paper", x0: date(at), x1: date(at), y0: 0, y1: 1, line: style,
});

export const span = (from, until, colour) => ({
  type: "rect", xref: "x", yref: "paper", x0: date(from), x1: date(until), y0: 0, y1: 1, layer: "below",
  fillcolor: colour, opacity: 0.15, line: { width: 1, color: colour },
});

export function spikeTrace(spikes, top, c) {
  return {
    name: "spikes", type: "scatter", mode: "markers", x: spikes.map((s) => date(s.at)), y: spikes.map(() => top),
    text: spikes.map((s) => s.text.slice(0, 120)), hovertemplate: "%{text}<extra></extra>", cliponaxis: false,
    marker: { symbol: "triangle-down", size: 11, color: spikes.map((s) => (s.kind === "observed" ? c.observed : c.onset)) },
  };
}

// How numbers of this size are written on an axis: 0.02, 15, 20K; seconds with a prefix: 40 ms. ("~s" writes 0.02 as 20m.)
const format = (highest, unit) => (unit === "s" || highest >= 10_000 ? "~s" : "~g");
const hovered = (highest, unit) => (unit === "s" || highest >= 10_000 ? `%{y:.3s}${unit}` : "%{y:.4~g}");

function highest(traces) {
  let most = 0;
  for (const { y } of traces) for (const value of y) if (value > most) most = value;
  return most;
}

// `top`: of the value axis; `now`: where the future begins (null: it is not drawn).
export async function plot(element, traces, { from, until, top = null, now = null, shapes = [], unit = "" }) {
  const Plotly = await plotly();
  if (!element.isConnected) return;
  const c = colours();
  const days = until - from > 2 * 86_400;
  const narrow = element.clientWidth < 520;
  const size = highest(traces);
  for (const trace of traces) trace.hovertemplate = trace.hovertemplate?.replace(HOVER, hovered(size, unit));
  const layout = {
    autosize: true, showlegend: false, hovermode: "x unified", dragmode: false, uirevision: "fixed",
    margin: { l: 48, r: 12, t: 14, b: 30 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: c.muted, size: 12 },
    hoverlabel: { bgcolor: c.raised, bordercolor: c.line, font: { color: c.text, size: 12 } },
    xaxis: { type: "date", range: [date(from), date(until)], gridcolor: c.grid, zeroline: false, fixedrange: true,
      showspikes: true, spikemode: "across", spikesnap: "cursor", spikethickness: -1, spikedash: "solid", spikecolor: c.muted,
      ticks: "outside", ticklen: 5, tickcolor: "rgba(0,0,0,0)", tickformat: days ? "%m-%d" : "%H:%M", nticks: narrow ? 5 : 10, hoverformat: days ? "%m-%d %H:%M UTC" : "%H:%M UTC" },
    yaxis: { range: top === null ? undefined : [0, top], rangemode: "tozero", gridcolor: c.grid, zeroline: false, nticks: 5,
      fixedrange: true, tickformat: format(size, unit), ticksuffix: unit },
    shapes: now === null ? shapes : [
      { type: "rect", xref: "x", yref: "paper", x0: date(now), x1: date(until), y0: 0, y1: 1, layer: "below",
        fillcolor: c.outer, opacity: 0.35, line: { width: 0 } },
      vertical(now, { color: c.muted, width: 1, dash: "dot" }), ...shapes],
    annotations: now === null ? [] : [{ x: date(now), y: 1, xref: "x", yref: "paper", text: "now", showarrow: false,
      yanchor: "bottom", font: { size: 11, color: c.muted } }],
  };
  await Plotly.react(element, traces, layout, { displayModeBar: false, responsive: true });
}

export function dispose(elements) {
  if (!window.Plotly) return;
  for (const element of elements) window.Plotly.purge(element);
}
