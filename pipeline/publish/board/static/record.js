// How good past advice on a pool was, what changed it, who sends the demand, what it costs.

import { el, table } from "./dom.js";
import { clockNear, count, dollars, interval, known, percent, rate, span, spanName, words } from "./format.js";

export function scorecard(cards) {
  const found = cards.filter((card) => card.scored > 0);
  if (!found.length) return null;
  const rows = [
    ["pieces of advice whose time has come", (card) => count(card.scored)],
    ["too few replicas", (card) => percent(card.too_low_ratio, 1)],
    ["too many replicas", (card) => percent(card.too_high_ratio, 1)],
    ["need within the interval", (card) => percent(card.interval_coverage_ratio, 1)],
    ["replica-hours short", (card) => rate(card.under_replica_hours)],
    ["replica-hours spare", (card) => rate(card.over_replica_hours)],
    ["requests beyond what was advised", (card) => rate(card.unserved_requests)],
    ["advice to add replicas that was followed", (card) => percent(card.followed_ratio, 1)],
    ["… and served in time", (card) => percent(card.lead_time_met_ratio, 1)],
  ];
  return table("scorecard of past advice", ["over the last", ...found.map((card) => spanName(card.span))],
    rows.map(([title, value]) => [title, ...found.map(value)]), { testid: "scorecard" });
}

export function forecastScores(scores, signal) {
  const found = scores.filter((s) => s.signal === signal && s.matured > 0 && known(s.wape));
  if (!found.length) return null;
  return table("accuracy of the forecast", ["ahead", "error of the median", "within 5–95 %", "below the 95 % quantile"],
    found.map((s) => [span(s.horizon_seconds), percent(s.wape, 1), percent(s.coverage_90, 1), percent(s.coverage_95, 1)]),
    { testid: "scores" });
}

const STEADY = new Set(["within_band", "stabilising"]); // reasons to keep a number: no news

// One row for every time the number changed, or there was another reason than that it may stay; newest first.
export function changes(advised, now) {
  const found = [];
  for (const one of advised) {
    const before = found.at(-1);
    if (!before || before.desired !== one.desired || (before.reason !== one.reason && !STEADY.has(one.reason))) found.push(one);
  }
  if (!found.length) return null;
  return table("changes of the advice", ["at", "why", "ran", "advised", "interval"],
    found.reverse().slice(0, 12).map((one) => [
      clockNear(one.issued_at, now), words(one.reason), count(one.current), count(one.desired), interval(one.lower, one.upper),
    ]), { right: 2, testid: "changes" });
}

export function tenants(found) {
  if (!found.length) return null;
  return table("demand by tenant", ["tenant", "requests/s", "share"], found.slice(0, 10).map((one) => [
    one.tenant === "*" ? "all others" : one.tenant, rate(one.requests_per_second), percent(one.share, 1),
  ]), { testid: "tenants" });
}

// Announced events that concern the pool: from a day ago to two weeks ahead.
export function calendar(found, now) {
  if (!found?.length) return null;
  return table("announced events", ["event", "from", "until", "expected", "sure"], found.map((event) => [
    el("span", { text: event.note ? `${words(event.kind)}: ${event.note.slice(0, 120)}` : words(event.kind) }),
    clockNear(event.starts_at, now), clockNear(event.ends_at, now),
    known(event.expected_size) ? `${rate(event.expected_size)} ×` : "–", percent(event.confidence),
  ]), { testid: "calendar" });
}

const SAVED = { against_static_peak: "against a fixed peak", against_ran: "against what ran" };

// `money`: what /v1/money says of the pool (undefined: nothing).
export function cost(money) {
  if (!money?.price) return null;
  const { price } = money, newest = money.spans.find((one) => one.span === "1h") ?? money.spans[0];
  const month = money.spans.find((one) => one.span === "30d");
  const used = (newest?.ran ?? newest?.advised)?.cost;
  const found = [
    ["now", known(money.dollars_per_hour_now) ? `${dollars(money.dollars_per_hour_now)} an hour` : null],
    ["as advised", known(money.dollars_per_hour_advised) ? `${dollars(money.dollars_per_hour_advised)} an hour` : null],
    [`per million tokens, ${spanName(newest?.span)}`, known(used?.dollars_per_million_tokens) ? dollars(used.dollars_per_million_tokens) : null],
    ["price of a GPU", `${dollars(price.dollars_per_gpu_hour)} an hour (${[price.source, price.as_of].filter(Boolean).join(", ")})${
      price.stale ? ": more than 90 days old" : ""}`],
    ...Object.entries(month?.savings_dollars ?? {}).filter(([, value]) => known(value))
      .map(([name, value]) => [`saved in 30 days, ${SAVED[name] ?? words(name)}`, dollars(value)]),
  ].filter(([, text]) => text);
  return el("dl", { class: "facts", "data-testid": "cost" },
    ...found.map(([title, text]) => el("div", { class: text.length > 30 ? "wide" : null },
      el("dt", { text: title }), el("dd", { text }))));
}
