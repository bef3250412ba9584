// All pools, one row each, those that need somebody first. The address keeps the search, the filter, the order, the span.

import { SORT_NAMES, level, missing, sorted } from "./attention.js";
import { el, set, setChildren, setText } from "./dom.js";
import { attainment, count, keyOf, known, plural } from "./format.js";
import { live, setSpan } from "./live.js";
import { COLUMNS, poolRow } from "./pool_row.js";
import { param, setParams } from "./router.js";
import { summary, totals } from "./summary.js";

const FILTERS = {
  all: { title: "all", keep: () => true },
  attention: { title: "need attention", keep: (row, now) => ["critical", "warning"].includes(level(row, now)) },
  add: { title: "add replicas", keep: (row) => missing(row) > 0 },
  remove: { title: "replicas may go", keep: (row) => missing(row) < 0 },
  invalid: { title: "no valid advice", keep: (row) => row.configured && row.desired === null },
};

const LINES = [["actual", "demand, requests/s"], ["median", "forecast median"], ["inner", "to its 95 %"],
  ["capacity", "running capacity"]];

export function overviewPage() {
  const rows = new Map(); // of the table, by pool
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) rows.get(entry.target.dataset.key)?.seen(entry.isIntersecting);
  }, { rootMargin: "300px 0px" });
  const parts = build();
  const { search, sort, spans, filters, body, tableElement } = parts;

  search.addEventListener("input", () => {
    setParams({ q: search.value.trim() });
    show();
  });
  sort.addEventListener("change", () => {
    setParams({ sort: sort.value === "attention" ? "" : sort.value });
    show();
  });
  for (const button of spans) {
    button.addEventListener("click", () => {
      setParams({ span: button.dataset.span === "3h" ? "" : button.dataset.span });
      route();
    });
  }
  for (const [name, button] of filters) {
    button.addEventListener("click", () => {
      setParams({ show: name === "all" ? "" : name });
      show();
    });
  }

  function route() {
    if (search.value.trim() !== param("q")) search.value = param("q");
    sort.value = param("sort", "attention");
    if (!sort.value) sort.value = "attention";
    const span = param("span") === "24h" ? "24h" : "3h";
    for (const button of spans) set(button, "aria-pressed", String(button.dataset.span === span));
    setSpan(span);
  }

  function show() {
    const { overview, status } = live;
    if (!overview || !status) return;
    const all = [...live.rows.values()], now = status.now;
    const words = param("q").toLowerCase().split(/\s+/).filter(Boolean);
    const found = all.filter((row) => words.every((word) => `${row.model}/${row.pool}`.toLowerCase().includes(word)));
    const chosen = FILTERS[param("show", "all")] ? param("show", "all") : "all";
    for (const [name, button] of filters) {
      const n = found.filter((row) => FILTERS[name].keep(row, now)).length;
      setText(button.lastElementChild, count(n));
      set(button, "aria-pressed", String(name === chosen));
      button.hidden = name !== chosen && name !== "all" && !n;
    }
    const kept = sorted(found.filter((row) => FILTERS[chosen].keep(row, now)), sort.value, now);
    showFigures(parts, all, status);
    for (const name of COLUMNS.filter((column) => column.optional).map((column) => column.name)) {
      tableElement.classList.toggle(`without-${name}`, !all.some(COLUMNS.find((c) => c.name === name).optional));
    }
    place(body, rows, kept, now, watcher);
    setText(parts.none, all.length ? "No pool matches." : "No pool yet: none is configured and no event has named one. "
      + "Name pools in the settings, or send an event for each finished request.");
    parts.none.hidden = kept.length > 0;
    for (const part of parts.ofPools) part.hidden = !all.length; // there is nothing to search, sort or explain
    window.tokentide.drawn = { pools: kept.map(keyOf) };
  }

  return { element: parts.element, title: "", route, show, key: (event) => move(event, body),
    close: () => watcher.disconnect() };
}

// Rows are made once for each pool and kept; the focus stays where it is when the order changes.
function place(body, rows, kept, now, watcher) {
  const wanted = kept.map((row) => {
    const key = keyOf(row);
    if (!rows.has(key)) {
      rows.set(key, poolRow(row));
      watcher.observe(rows.get(key).element);
    }
    const made = rows.get(key);
    made.update(row, now);
    return made.element;
  });
  const focused = body.contains(document.activeElement) ? document.activeElement : null;
  setChildren(body, wanted);
  if (focused && focused !== document.activeElement && body.contains(focused)) focused.focus({ preventScroll: true });
  for (const [key, row] of rows) {
    if (live.rows.has(key)) continue;
    watcher.unobserve(row.element);
    rows.delete(key);
  }
}

function move(event, body) {
  const step = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 }[event.key];
  if (!step) return false;
  const links = [...body.querySelectorAll("a")];
  const at = links.indexOf(document.activeElement);
  const next = links[at < 0 ? (step > 0 ? 0 : links.length - 1) : Math.max(0, Math.min(links.length - 1, at + step))];
  next?.focus();
  next?.closest(".row").scrollIntoView({ block: "nearest" });
  return true;
}

function showFigures(parts, all, status) {
  const { text, level: bad } = summary(all, live.kinds, status.now, Boolean(status.progress));
  setText(parts.summary, text);
  set(parts.summary, "class", bad || null);
  const said = totals(all);
  const change = said.desired - said.current;
  const signed = change ? ` (${change > 0 ? "+" : "−"}${count(Math.abs(change))})` : "";
  const figures = {
    pools: plural(all.length, "pool"),
    valid: `${said.valid} of ${said.configured}`,
    replicas: said.compared ? `${count(said.current)} → ${count(said.desired)}${signed}` : "–",
    gpus: said.compared ? `${count(said.currentGpus)} → ${count(said.desiredGpus)}` : "–",
    slo: attainment(said.lowestAttainment),
  };
  for (const [name, value] of Object.entries(figures)) setText(parts.figures[name], value);
  set(parts.figures.slo.parentElement, "class", known(said.lowestAttainment) && said.lowestAttainment < 0.95 ? "warn" : null);
  set(parts.figures.valid.parentElement, "class", said.valid < said.configured && !status.progress ? "warn" : null);
}

function build() {
  const figure = (title, testid) => {
    const value = el("dd", { text: "–" });
    return [el("div", { "data-testid": testid }, el("dt", { text: title }), value), value];
  };
  const made = {
    pools: figure("watched", "pools"), valid: figure("valid advice", "valid-advice"),
    replicas: figure("replicas, running → advised", "replicas"), gpus: figure("GPUs, running → advised", "gpus"),
    slo: figure("lowest SLO attainment, 1 h", "lowest-slo"),
  };
  const summaryLine = el("p", { id: "summary", "data-testid": "summary", "aria-live": "polite", text: "waiting for data" });
  const search = el("input", {
    type: "search", id: "filter", "data-testid": "filter", placeholder: "search model or pool", autocomplete: "off",
    "aria-label": "search model or pool", "aria-keyshortcuts": "/",
  });
  const sort = el("select", { id: "sort", "data-testid": "sort" },
    ...Object.entries(SORT_NAMES).map(([value, text]) => el("option", { value, text })));
  const spans = ["3h", "24h"].map((span) => el("button", {
    type: "button", "data-span": span, "data-testid": `span-${span}`, "aria-pressed": "false",
    text: span === "3h" ? "3 h" : "24 h",
  }));
  const filters = new Map(Object.entries(FILTERS).map(([name, { title }]) => [name, el("button", {
    type: "button", class: "filter", "data-testid": `show-${name}`, "aria-pressed": "false",
  }, `${title} `, el("b", { text: "0" }))]));
  const body = el("div", { role: "rowgroup", class: "rows", "data-testid": "rows" });
  const heads = COLUMNS.map(({ name, title, hint }) => el("div", {
    role: "columnheader", class: `cell ${name}`, text: title, title: hint ?? null,
  }));
  const tableElement = el("div", { role: "table", class: "pools", "aria-label": "pools" },
    el("div", { role: "rowgroup", class: "heads" }, el("div", { role: "row", class: "row head" }, ...heads)), body);
  const none = el("p", { class: "none", hidden: true });
  const tools = el("div", { class: "tools" },
    search,
    el("div", { class: "filters", role: "group", "aria-label": "which pools" }, ...filters.values()),
    el("div", { class: "segments", role: "group", "aria-label": "span of the demand" }, ...spans),
    el("label", { class: "sort" }, "sort ", sort));
  const legend = el("ul", { class: "legend", "aria-label": "lines of the charts" },
    ...LINES.map(([name, text]) => el("li", { class: `key ${name}`, text })));
  const figureList = el("dl", { class: "figures" }, ...Object.values(made).map(([outer]) => outer));
  const element = el("div", { class: "overview" },
    el("h1", { class: "visually-hidden", text: "Overview of all pools" }),
    summaryLine,
    figureList,
    tools,
    legend,
    tableElement, none);
  const figures = Object.fromEntries(Object.entries(made).map(([name, [, value]]) => [name, value]));
  return { element, summary: summaryLine, figures, search, sort, spans, filters, body, tableElement, none,
    ofPools: [figureList, tools, legend, tableElement] };
}
