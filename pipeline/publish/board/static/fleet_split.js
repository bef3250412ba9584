// The advised replicas over the GPUs that the pools share: who goes short, what of the stock is used.

import { chip, el, table } from "./dom.js";
import { count, dollars, known, percent, plural } from "./format.js";
import { poolHref } from "./router.js";

const MOST = 100; // lines of the stock
const FEW = 25; // rows that nobody wants fewer of

// Panels of the split, with the pools whose text matches; nothing before it was read.
export function splitPanels({ split, shared }, matches, most) {
  if (!shared) {
    return [el("p", { class: "quiet", "data-testid": "no-stock",
      text: "The pools share no stock of GPUs: fleet.stock is not set." })];
  }
  return split ? [splitPanel(split, matches, most), stockPanel(split)] : [];
}

// The catalogue's own names are in small letters, those of the settings in capitals: one look for both.
const gpuName = (id) => id.toUpperCase();
const link = (pool) => el("a", { href: poolHref(pool) }, el("b", { text: pool.pool }),
  el("span", { class: "quiet", text: pool.model }));

// What shows all rows of a table that begins with some, or fewer again; nothing where it has no more.
export function moreRows(count, most) {
  const all = count <= most;
  if (all && (most < MOST || count <= FEW)) return null;
  return el("p", {}, el("button", { type: "button", "data-rows": all ? "" : "all", "data-testid": "more-rows",
    text: all ? "show fewer" : `show all ${plural(count, "pool")}` }));
}

function splitPanel(split, matches, most) {
  const short = split.pools.filter((pool) => pool.short_share > 0)
    .sort((a, b) => a.priority - b.priority || b.short_share - a.short_share);
  const rest = split.pools.filter((pool) => !(pool.short_share > 0)).sort((a, b) => cost(b) - cost(a));
  const rows = [...short, ...rest].filter((pool) =>
    matches(`${pool.model}/${pool.pool} ${pool.split.map((part) => part.gpu).join(" ")}`));
  const notes = [
    split.without_advice.length
      ? `Without advice so far, and without stock: ${plural(split.without_advice.length, "pool")}.` : null,
    split.excluded.length
      ? `${plural(split.excluded.length, "shape")} cannot serve a pool within its objective: /v1/fleet says why.` : null,
  ].filter(Boolean);
  return el("section", { class: "panel", "data-testid": "split" },
    el("div", { class: "panel-head" }, el("h2", { text: "Split of the advice over the stock" }), verdict(split, short)),
    facts(split),
    rows.length ? table("split by pool", ["pool", "runs on", "priority", "advised", "short", "$ an hour"],
      rows.slice(0, most).map((pool) => [link(pool), places(pool), count(pool.priority), advised(pool), shortage(pool),
        dollars(cost(pool))]), { right: 2, testid: "split-pools", cards: true }) : null,
    moreRows(rows.length, most),
    ...notes.map((text) => el("p", { class: "quiet", text })));
}

function verdict(split, short) {
  if (split.holds === null) return chip("no advice yet");
  return split.holds ? chip("every pool has what it is advised", "good")
    : chip(short.length ? `${plural(short.length, "pool goes", "pools go")} short`
      : "the stock or the budget does not do", "bad");
}

function facts(split) {
  const told = (title, value, text) => (known(value) ? [[title, text ?? dollars(value)]] : []);
  const found = [
    ...told("$ an hour, at the prices of the stock", split.dollars_per_hour),
    ...(split.committed_dollars_per_hour
      ? [["of it reserved, used or not", dollars(split.committed_dollars_per_hour)]] : []),
    ...told("budget, $ an hour", split.budget_dollars_per_hour),
    ...(known(split.smallest_budget_dollars_per_hour)
      ? [["smallest budget that carries everything", dollars(split.smallest_budget_dollars_per_hour)]]
      : split.holds === false ? [["smallest budget that carries everything", "none: the stock is too small"]] : []),
    ...told("replicas started or stopped", split.changes, count(split.changes)),
  ];
  return el("dl", { class: "facts" }, ...found.map(([title, text]) =>
    el("div", {}, el("dt", { text: title }), el("dd", { text }))));
}

const cost = (pool) => pool.split.reduce((sum, part) => sum + part.dollars_per_hour, 0);

const places = (pool) => (pool.split.length ? pool.split.map((part) =>
  `${plural(part.replicas, "replica")} of ${part.gpus_per_replica} × ${gpuName(part.gpu)} (${part.stock})`).join(", ") : "nothing");

const advised = (pool) => (pool.advice_expired
  ? el("span", {}, `${count(pool.advised_replicas)} `, chip("expired: hold", "warn")) : count(pool.advised_replicas));

const shortage = (pool) => (pool.short_share > 0 ? chip(percent(pool.short_share, 1), "bad") : "no");

function stockPanel(split) {
  const stale = new Set(split.stale_prices.map((price) => price.stock));
  return el("section", { class: "panel" }, el("h2", { text: "Stock" }),
    table("stock", ["line", "price from", "GPUs used", "$ per GPU-hour", "price as of"],
      split.stock.slice(0, MOST).map((line) => [
        el("span", {}, el("b", { text: line.stock }), el("span", { class: "quiet",
          text: ` ${gpuName(line.gpu)}, ${line.capacity_type.replaceAll("_", " ")}${line.region ? `, ${line.region}` : ""}` })),
        line.price_source, `${count(line.used)} of ${count(line.count)}`, dollars(line.dollars_per_gpu_hour),
        el("span", { class: "nowrap" }, `${line.price_as_of || "not dated"} `, stale.has(line.stock) ? chip("stale", "warn") : null),
      ]), { right: 2, testid: "stock", cards: true }));
}
