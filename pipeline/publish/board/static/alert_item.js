// One alert: what, where and when at a glance; the whole text on demand.

import { el } from "./dom.js";
import { clockNear, clockSpan, known, probability, rate, span, words } from "./format.js";
import { poolHref } from "./router.js";

const SHORT = 110; // characters that are read at a glance

export function alertItem(alert, kinds, now, { withPool = true } = {}) {
  const kind = kinds.get(alert.kind);
  const named = `${alert.model}/${alert.pool}: `; // the line above says it already
  const message = alert.message.startsWith(named) ? alert.message.slice(named.length) : alert.message;
  const times = alert.active ? `since ${clockNear(alert.raised_at, now)}`
    : clockSpan(alert.raised_at, alert.ended_at, now);
  const facts = [
    kind?.spike === "forecast" && alert.active ? onset(alert.onset_at, now) : null,
    known(alert.ratio) ? `${rate(alert.ratio)} times the ${kind?.spike === "forecast" ? "capacity" : "recent level"}` : null,
    known(alert.probability) ? `probability ${probability(alert.probability)}` : null,
  ].filter(Boolean);
  return el("li", {
    class: `alert ${alert.active ? alert.severity : "ended"}`, "data-testid": "alert", "data-id": alert.alert_id,
    "data-kind": alert.kind, "data-active": String(alert.active), "data-severity": alert.severity,
  },
  el("div", { class: "alert-head" },
    el("b", { text: kind?.title || words(alert.kind) }),
    el("span", { class: `chip ${alert.active ? LEVELS[alert.severity] ?? "" : ""}`, text: alert.active ? alert.severity : "ended" }),
    withPool ? el("a", { href: poolHref(alert), text: `${alert.pool} · ${alert.model}` }) : null,
    el("time", { text: times })),
  facts.length ? el("p", { class: "glance", text: facts.join(" · ") }) : null,
  text(message, alert.alert_id));
}

const LEVELS = { critical: "bad", warning: "warn" };
const opened = new Set(); // alerts whose whole text is shown: it stays so when the list is drawn again

function onset(at, now) {
  return at > now ? `onset in ${span(at - now)} (${clockNear(at, now)})` : `onset was ${clockNear(at, now)}`;
}

function text(message, id) {
  if (message.length <= SHORT) return el("p", { class: "alert-text", text: message });
  const cut = message.lastIndexOf(" ", SHORT);
  const details = el("details", { class: "alert-text", open: opened.has(id) },
    el("summary", { text: `${message.slice(0, cut > 40 ? cut : SHORT)}\u00a0…` }), el("p", { text: message }));
  details.addEventListener("toggle", () => (details.open ? opened.add(id) : opened.delete(id)));
  return details;
}
