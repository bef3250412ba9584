// The parts of the page of one pool, empty.

import { el } from "./dom.js";
import { SPANS } from "./fan.js";
import { BRIDGED, SIGNALS } from "./format.js";
import { href } from "./router.js";

const FIGURES = {
  advised: "advised replicas", running: "running", "runs-out": "runs out", headroom: "headroom", demand: "demand",
  slo: "SLO attainment, 1 h", expiry: "advice expires",
};
const KEYS = [
  ["actual", "demand"], ["median", "forecast median"], ["inner", "25–75 %"], ["outer", "5–95 %"],
  ["capacity", "capacity now"], ["recommended", "recommended capacity"], ["observed", "spike observed"],
  ["onset", "spike forecast"], ["announced", "announced event"],
];
const LATENCIES = { ttft: "Time to first token", tpot: "Time per output token" };
const PANELS = {
  why: "Why this number", alerts: "Spikes and alerts", calendar: "Announced events", changes: "Changes of the advice",
  scorecard: "How good past advice was", scores: "How good the forecast is", tenants: "Who sends most", cost: "Cost",
};

const legend = (keys) => el("ul", { class: "legend" }, ...keys.map(([name, text]) => el("li", { class: `key ${name}`, text })));

export function buildPool(model, pool) {
  const sentence = el("p", { class: "sentence", "data-testid": "sentence", "aria-live": "polite" });
  const state = el("span", { class: "chip", "data-testid": "state" });
  const bridged = el("p", { class: "quiet", "data-testid": "bridged", hidden: true }, el("b", { text: "From metrics. " }), BRIDGED);
  const figures = {};
  const figureList = el("dl", { class: "figures" }, ...Object.entries(FIGURES).map(([name, title]) => {
    const value = el("span", { text: "–" }), beside = el("small");
    figures[name] = { value, beside };
    return el("div", { "data-testid": `figure-${name}` }, el("dt", { text: title }), el("dd", {}, value, " ", beside));
  }));
  const signals = Object.entries(SIGNALS).map(([signal, { name }]) => el("button", {
    type: "button", "data-signal": signal, "data-testid": `signal-${signal}`, "aria-pressed": "false", text: name,
  }));
  const spans = Object.entries(SPANS).map(([name, { title }]) => el("button", {
    type: "button", "data-span": name, "data-testid": `span-${name}`, "aria-pressed": "false", text: title,
  }));
  const units = [0, 1].map(() => el("span", { class: "unit" }));
  const chart = el("div", { class: "chart large", "data-testid": "chart", role: "img", "aria-label": "demand and forecast" });
  const described = el("p", { class: "quiet", "data-testid": "described" });
  const horizon = el("select", { "data-testid": "horizon" });
  const pastChart = el("div", { class: "chart", "data-testid": "past-chart", role: "img",
    "aria-label": "what was forecast, and what came" });
  const latency = {};
  const latencyPanels = Object.entries(LATENCIES).map(([name, title]) => {
    const told = el("p", { class: "quiet" });
    const drawing = el("div", { class: "chart small", "data-testid": `${name}-chart`, role: "img", "aria-label": title });
    latency[name] = { told, chart: drawing };
    return el("div", {}, el("h3", { text: title }), told, drawing);
  });
  const panels = {};
  for (const [name, title] of Object.entries(PANELS)) {
    const body = el("div", { class: "body" });
    const panel = el("section", { class: "panel", "data-testid": `panel-${name}` }, el("h2", { text: title }), body);
    panels[name] = { panel, body };
  }
  const pastSection = el("section", { class: "panel" },
    el("div", { class: "panel-head" }, el("h2", {}, "What was forecast, and what came", units[1]),
      el("label", {}, el("span", { class: "visually-hidden", text: "forecast how far ahead" }), horizon)),
    legend([["actual", "what came"], ["median", "median, as forecast then"], ["inner", "5–95 %, as forecast then"]]), pastChart);
  const latencySection = el("section", { class: "panel" }, el("h2", { text: "Latency" }),
    legend([["actual", "observed"], ["median", "predicted at the planned load"], ["observed-line", "objective"]]),
    el("div", { class: "pair" }, ...latencyPanels));
  const content = el("div", { class: "panels", hidden: true },
    el("section", { class: "panel full" },
      el("div", { class: "panel-head" }, el("h2", {}, "Demand and forecast", units[0]),
        el("div", { class: "segments", role: "group", "aria-label": "signal" }, ...signals),
        el("div", { class: "segments", role: "group", "aria-label": "how far ahead" }, ...spans)),
      legend(KEYS), chart, described),
    el("div", { class: "column" }, panels.why.panel, latencySection, panels.scorecard.panel, panels.scores.panel),
    el("div", { class: "column" }, panels.alerts.panel, panels.calendar.panel, pastSection, panels.changes.panel, panels.tenants.panel, panels.cost.panel));
  const gone = el("p", { class: "none", hidden: true, text: "There is no such pool: neither settings nor events name it." });
  const notice = el("p", { class: "notice", role: "status", "data-testid": "notice", hidden: true });
  const element = el("div", { class: "page pool", "data-testid": "pool-page" },
    el("p", {}, el("a", { href: href("overview"), text: "← all pools" })),
    el("h1", {}, `${pool} `, el("span", { class: "of", text: model }), " ", state),
    sentence, bridged, figureList, notice, gone, content);
  return { element, figureList, sentence, bridged, state, figures, signals, spans, units, chart, described, horizon, pastChart, latency, panels, content, gone, notice };
}
