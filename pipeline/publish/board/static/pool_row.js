// One pool's row of the overview.

import { action, alertTitle, level, missing, runOut, worstAlert } from "./attention.js";
import { el, set, setText } from "./dom.js";
import { BRIDGED, attainment, count, dollars, exact, interval, known, keyOf, percent, rate, span, words } from "./format.js";
import { live } from "./live.js";
import { poolHref } from "./router.js";
import { sparkline } from "./sparkline.js";

const costOf = (row) => live.money.get(keyOf(row))?.dollars_per_hour_now;

// `optional`: whether a row has something for the column; where none has, it is left out.
export const COLUMNS = [
  { name: "name", title: "pool" },
  { name: "trend", title: "demand and forecast", hint: "line: demand; dashes and band: forecast median to 95 %; grey: what runs" },
  { name: "demand", title: "requests/s" },
  { name: "runs-out", title: "runs out", hint: "when the forecast median (expected) or 0.9 quantile (possible) exceeds what runs" },
  { name: "headroom", title: "headroom", hint: "running replicas beyond those that the planned-for demand needs" },
  { name: "replicas", title: "running → advised", short: "replicas", hint: "with the interval of the advice" },
  { name: "slo", title: "SLO, 1 h", hint: "requests within the objective, newest hour",
    optional: (row) => known(row.slo_attainment_ratio["1h"]) },
  { name: "cost", title: "$ an hour", hint: "what runs now, at the prices of the settings", optional: (row) => known(costOf(row)) },
  { name: "state", title: "state" },
];

// What the states of the advice mean, for whoever points at one.
const STATES = {
  fresh: "good for scaling up and down",
  hold: "the last number holds: take no replicas away",
  cold_start: "little is known of the pool yet: take no replicas away",
  degraded: "made from incomplete data: take no replicas away",
  expired: "too old to be followed: hold what runs",
  none: "nothing was advised yet",
};

export function poolRow(row) {
  const key = keyOf(row);
  const metrics = el("span", { class: "chip bridged", "data-testid": "bridged", text: "from metrics", title: BRIDGED, hidden: true });
  const link = el("a", { href: poolHref(row), "data-testid": "pool-link" },
    el("span", { class: "title" }, el("b", { text: row.pool }), metrics),
    el("span", { class: "model", text: row.model, title: row.model }));
  const line = sparkline();
  const label = (column) => {
    const { short, title } = COLUMNS.find(({ name }) => name === column);
    return short ?? title;
  };
  const cell = (column, ...children) => el("div", { role: "cell", class: `cell ${column}` },
    column === "name" || column === "trend" ? null : el("span", { class: "label", "aria-hidden": "true", text: label(column) }),
    ...children);
  const text = (testid, tag = "span") => el(tag, { "data-testid": testid });
  const parts = {
    metrics,
    demand: text("demand", "b"), runsOut: text("runs-out", "b"), why: text("runs-out-signal"),
    headroom: text("headroom", "b"), bar: el("i", { class: "bar", "aria-hidden": "true" }),
    current: text("current"), arrow: el("span", { class: "arrow", text: "→", "aria-label": "to" }),
    desired: text("desired", "b"), interval: text("interval"), slo: text("slo", "b"), cost: text("cost", "b"),
    state: text("state"), alert: text("alert-title"), todo: text("action"),
  };
  const element = el("div", {
    role: "row", class: "row", "data-testid": "pool-row", "data-key": key, "data-model": row.model, "data-pool": row.pool,
  },
  cell("name", link),
  cell("trend", line.element),
  cell("demand", parts.demand),
  cell("runs-out", parts.runsOut, parts.why),
  cell("headroom", parts.headroom, parts.bar),
  cell("replicas", el("span", { class: "move" }, parts.current, parts.arrow, parts.desired), parts.interval),
  cell("slo", parts.slo),
  cell("cost", parts.cost),
  cell("state", el("div", { class: "chips" }, parts.state, parts.alert), parts.todo));
  element.addEventListener("click", (event) => {
    if (!event.target.closest("a") && !String(getSelection())) location.hash = poolHref(row);
  });
  let told = null, drawn = null, near = false;
  const draw = () => {
    if (drawn !== told) line.draw(told); // a row of the overview is a new object whenever it was fetched again
    drawn = told;
  };
  return {
    element,
    // Lines that are not near the window are drawn when they come near: most of 200 rows, most of the time.
    seen(is) {
      near = is;
      if (near && told) draw();
    },
    // Texts are for those who do not look, too: all are written after a step, those near the window every second.
    update(newest, now) {
      const fresh = newest !== told;
      told = newest;
      if (fresh) line.label(told);
      mark(element, told, now);
      if (fresh || near) update(parts, told, now);
      if (near) draw();
    },
  };
}

function mark(element, row, now) {
  set(element, "data-level", level(row, now));
  set(element, "data-state", row.state);
  set(element, "data-desired", row.desired ?? "");
  set(element, "data-direction", row.direction ?? "");
}

function update(parts, row, now) {
  parts.metrics.hidden = !row.bridged;
  setText(parts.demand, rate(row.requests_per_second));
  const out = runOut(row, now);
  setText(parts.runsOut, out ? (out.expected ? out.text : `maybe ${out.text}`) : row.desired === null ? "–" : row.current === null ? "–" : "not expected");
  set(parts.runsOut, "class", out ? out.tone || null : "calm");
  setText(parts.why, out ? `limit: ${out.signal}` : "");
  showHeadroom(parts, row.headroom?.ratio);
  setText(parts.current, known(row.current) ? count(row.current) : "?");
  set(parts.current, "title", known(row.current) ? exact(row.current) : "the fleet does not report what runs");
  setText(parts.desired, count(row.desired));
  set(parts.desired, "title", exact(row.desired));
  const change = missing(row);
  set(parts.desired, "class", change > 0 ? "up" : change < 0 ? "down" : null);
  setText(parts.interval, interval(row.lower, row.upper));
  const attained = row.slo_attainment_ratio["1h"];
  setText(parts.slo, attainment(attained));
  set(parts.slo, "class", known(attained) && attained < 0.95 ? "warn" : null);
  setText(parts.cost, dollars(costOf(row)));
  const state = row.state === "none" ? (row.configured ? "no advice" : "not sized") : words(row.state);
  const expired = row.state === "expired" && known(row.expires_at) ? ` ${span(now - row.expires_at)} ago` : "";
  setText(parts.state, state + expired);
  set(parts.state, "title", STATES[row.state] ?? null);
  set(parts.state, "class", `chip ${row.state === "fresh" ? "good" : row.configured ? "warn" : ""}`);
  const alert = alertTitle(row, live.kinds);
  parts.alert.hidden = !alert;
  setText(parts.alert, alert ?? "");
  set(parts.alert, "class", `chip ${{ critical: "bad", warning: "warn" }[worstAlert(row)] ?? ""}`);
  setText(parts.todo, action(row, now));
  set(parts.todo, "class", `todo ${level(row, now)}`);
}

function showHeadroom(parts, ratio) {
  setText(parts.headroom, percent(ratio).replace("-", "−"));
  set(parts.headroom, "class", known(ratio) && ratio < 0 ? "bad" : null);
  parts.bar.hidden = !known(ratio);
  const share = known(ratio) ? Math.min(1, Math.abs(ratio)) : 0;
  parts.bar.style.setProperty("--share", share.toFixed(2));
  set(parts.bar, "data-sign", known(ratio) ? (ratio < 0 ? "negative" : "positive") : null);
}
