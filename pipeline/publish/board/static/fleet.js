// What runs and costs, now and as advised, by pool; what a token costs; the prices; the split over the stock.

import { chip, el, keepFocus, set, setText, table } from "./dom.js";
import { FleetData } from "./fleet_data.js";
import { SPANS, byCost, poolMoney, prices, totals } from "./fleet_money.js";
import { moreRows, splitPanels } from "./fleet_split.js";
import { count, dollars, keyOf, known, percent, plural, times } from "./format.js";
import { param, poolHref, setParams } from "./router.js";

const SHOWN = 25; // rows at first: the dearest, and what is searched for. More would hold up every step that is drawn.
const MOST = 1000;
const USUAL_SPAN = "1d";

export function fleetPage() {
  const told = el("p", { class: "notice", "data-testid": "fleet-notice", role: "status", hidden: true });
  const search = el("input", { type: "search", "data-testid": "filter", placeholder: "search model, pool or GPU",
    "aria-label": "search model, pool or GPU", "aria-keyshortcuts": "/", autocomplete: "off" });
  const spans = Object.entries(SPANS).map(([name, text]) => el("button", { type: "button", "data-span": name,
    "data-testid": `span-${name}`, text }));
  const figures = el("section", { class: "panel", "aria-label": "figures" }), content = el("div", { class: "page" });
  let closed = false;
  const data = new FleetData(draw);

  search.addEventListener("input", () => {
    setParams({ q: search.value.trim() });
    draw();
  });
  for (const button of spans) {
    button.addEventListener("click", () => {
      setParams({ span: button.dataset.span === USUAL_SPAN ? "" : button.dataset.span });
      route();
      draw();
    });
  }

  const span = () => (SPANS[param("span")] ? param("span") : USUAL_SPAN);

  function route() {
    if (search.value.trim() !== param("q")) search.value = param("q");
    for (const button of spans) set(button, "aria-pressed", String(button.dataset.span === span()));
  }

  function draw() {
    if (closed) return;
    told.hidden = !data.errors.length && !data.cut;
    setText(told, data.errors.length ? `Not everything could be read: what is shown may be old. (${data.errors.join("; ")})`
      : data.cut ? `Only the first ${plural(data.pools.length, "pool")} are shown and added up.` : "");
    if (!data.pools) return;
    const rows = data.pools.map((pool) => poolMoney(pool, span())).sort(byCost);
    const words = param("q").toLowerCase().split(/\s+/).filter(Boolean);
    const matches = (text) => words.every((word) => text.toLowerCase().includes(word));
    const found = rows.filter(({ pool }) => matches(`${pool.model}/${pool.pool} ${pool.gpu ?? ""}`));
    const most = param("rows") === "all" ? MOST : SHOWN;
    figures.replaceChildren(figureList(rows, span(), data.split));
    keepFocus(content, () => content.replaceChildren(...[poolsPanel(found, rows, span(), most),
      ...splitPanels(data, matches, most), pricesPanel(data.pools)].filter(Boolean)));
    if (data.loading) return; // the split follows
    window.tokentide.drawn = { fleet: found.map(({ pool }) => keyOf(pool)), split: data.split };
  }

  content.addEventListener("click", (event) => {
    if (!event.target.closest("[data-rows]")) return;
    setParams({ rows: event.target.closest("[data-rows]").dataset.rows });
    draw();
  });

  const element = el("div", { class: "page" }, el("h1", { text: "Fleet and cost" }), told, figures,
    el("div", { class: "tools" }, search,
      el("div", { class: "segments", role: "group", "aria-label": "span of cost per token and utilisation" }, ...spans)),
    content);
  return { element, title: "Fleet and cost", route, show: () => void data.load(), close: () => {
    closed = true;
  } };
}

const whole = (text) => el("span", { class: "nowrap", text });
const or = (value, format) => (known(value) ? format(value) : "unknown");
const of = (some, all) => (some < all ? `${some} of ${plural(all, "pool")}` : plural(all, "pool"));

function figureList(rows, span, split) {
  const said = totals(rows), all = rows.length;
  const change = said.compared ? said.advised - said.now : null;
  const stale = prices(rows.map((row) => row.pool)).filter(({ price }) => price.stale).length;
  const short = split?.pools.filter((pool) => pool.short_share > 0).length;
  const found = [
    ...(short ? [["short", "stock", `${plural(short, "pool")} short`, "of what they are advised", "bad"]] : []),
    ["cost", "$ an hour, now → advised", known(said.now) ? `${dollars(said.now)} → ${dollars(said.advised)}` : "unknown",
      known(change) ? `${change === 0 ? "no change" : `${change > 0 ? "+" : ""}${dollars(change)}`}, ${of(said.compared, all)}` : ""],
    ["per-million", `$ per 1M tokens, ${SPANS[span]}`, or(said.perMillion, dollars),
      known(said.perMillion) ? of(said.costed, all) : ""],
    ["utilisation", `utilisation by cost, ${SPANS[span]}`, or(said.utilisation, percent),
      said.utilisation ? `a token costs ${times(1 / said.utilisation)} that at capacity; ${of(said.used, all)}` : ""],
    ["saved", "saved against static peak, 30 d", or(said.saved, dollars),
      known(said.saved) ? of(said.savers, all) : ""],
    ...(stale ? [["stale", "prices", `${stale} stale`, "", "warn"]] : []),
  ];
  return el("dl", { class: "figures" }, ...found.map(([name, title, value, more, level]) =>
    el("div", { "data-testid": `fleet-${name}`, class: level ?? null }, el("dt", { text: title }),
      el("dd", {}, `${value} `, el("small", { text: more })))));
}

const COLUMNS = [
  { title: "pool", cell: ({ pool }) => el("a", { href: poolHref(pool) }, el("b", { text: pool.pool }),
    el("span", { class: "quiet", text: pool.model })) },
  { title: "a replica", cell: ({ pool }) => (pool.gpu ? `${pool.gpus_per_replica}\u00a0×\u00a0${pool.gpu}` : "unknown") },
  { title: "replicas, now → advised",
    cell: ({ pool }) => `${or(pool.current_replicas, count)} → ${or(pool.advised_replicas, count)}` },
  { title: "$ an hour, now → advised", has: (row) => known(row.now) || known(row.advised),
    cell: (row) => `${or(row.now, dollars)} → ${or(row.advised, dollars)}` },
  { title: "$ per 1M tokens", has: ({ cost }) => known(cost?.dollars_per_million_tokens),
    cell: (row) => or(row.cost?.dollars_per_million_tokens, (value) =>
      `${dollars(value)}${row.basis === "advised" ? " as advised" : ""}`) },
  { title: "utilisation", has: ({ cost }) => known(cost?.utilisation),
    cell: ({ cost }) => or(cost?.utilisation, percent) },
  { title: "utilisation trap", has: ({ cost }) => known(cost?.utilisation_trap_ratio),
    cell: ({ cost }) => or(cost?.utilisation_trap_ratio, times) },
  { title: "break-even against API", has: (row) => known(row.breakEven), cell: breakEven },
  { title: "saved against static peak, 30\u00a0d", has: (row) => known(row.saved), cell: (row) => or(row.saved, dollars) },
];

function breakEven({ breakEven: at, ownToApi, pool }) {
  if (!known(at)) return pool.api ? "unknown" : "no API set";
  const verdict = at > 1 ? ", API cheaper at any load" : ownToApi > 1 ? ", API cheaper now" : "";
  return el("span", { class: verdict ? "warn" : null, text: `${percent(at)}${verdict}`.replaceAll(" ", "\u00a0") });
}

function poolsPanel(found, all, span, most) {
  const columns = COLUMNS.filter(({ has }) => !has || all.some(has));
  const unpriced = all.filter(({ pool }) => !pool.price).length;
  const notes = [
    unpriced ? `Without a price, and in no sum: ${plural(unpriced, "pool")}.` : null,
    all.some(({ cost }) => known(cost?.utilisation_trap_ratio))
      ? "Utilisation trap: how many times the price of a token at full capacity is paid." : null,
    all.some((row) => known(row.breakEven)) ? "Break-even: the utilisation at which the replicas cost as much as the API." : null,
  ].filter(Boolean);
  return el("section", { class: "panel" }, el("h2", { text: `Pools, by cost (tokens and utilisation: ${SPANS[span]})` }),
    found.length ? table("cost by pool", columns.map((column) => column.title),
      found.slice(0, most).map((row) => columns.map(({ cell }) => cell(row))), { right: 2, testid: "costs", cards: true })
      : el("p", { class: "none", text: all.length ? "No pool matches." : "No pool is configured." }),
    moreRows(found.length, most),
    ...notes.map((text) => el("p", { class: "quiet", text })));
}

function pricesPanel(pools) {
  const found = prices(pools);
  if (!found.length) return null;
  const per = ({ kind, price }) => (kind === "gpu" ? `${dollars(price.dollars_per_gpu_hour)} per GPU-hour`
    : `${dollars(price.dollars_per_million_input_tokens)} in, ${
      dollars(price.dollars_per_million_output_tokens)} out per 1M`);
  return el("section", { class: "panel" }, el("h2", { text: "Prices" }),
    table("prices", ["of", "source", "as of", "price", "age", "pools"], found.slice(0, MOST).map((one) => [
      one.kind === "gpu" ? one.name : `API ${one.name}`, one.price.source, whole(one.price.as_of || "not dated"), whole(per(one)),
      age(one.price), count(one.pools),
    ]), { right: 3, testid: "prices", cards: true }),
    found.some(({ price }) => price.stale)
      ? el("p", { class: "quiet", text: "Stale: older than 90 days, dated ahead or not dated." }) : null);
}

function age({ age_days: days, stale }) {
  const text = known(days) ? (days < 0 ? "dated ahead" : `${days}\u00a0d`) : "unknown";
  return stale ? chip(`${text}, stale`, "warn") : text;
}
