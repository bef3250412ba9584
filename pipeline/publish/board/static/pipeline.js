// How the pipeline does: whether it is ready, how far it lags, what became of every record.

import { chip, el, table } from "./dom.js";
import { count, exact, percent, span, words } from "./format.js";
import { live } from "./live.js";

export function pipelinePage() {
  const content = el("div", { class: "flow" });
  let shown = "";

  function show() {
    const { status } = live;
    if (!status) return;
    const key = JSON.stringify({ ...status, now: null, steps: null, watermark_lag_seconds: null, last_success: null }) + status.as_of;
    if (key === shown && content.contains(document.activeElement)) return; // do not take the focus away for nothing
    shown = key;
    content.replaceChildren(...[figures(status), records(status), lag(status), stages(status), unknownModels(status),
      bridged(status), clocks(status), about(status)].filter(Boolean));
    window.tokentide.drawn = { status };
  }

  const element = el("div", { class: "page" }, el("h1", { text: "Pipeline" }), content);
  return { element, title: "Pipeline", show };
}

const panel = (title, ...children) => el("section", { class: "panel" }, el("h2", { text: title }), ...children);

function figures(status) {
  const { ledger, deltas } = status, lag = status.watermark_lag_seconds;
  const behind = status.lag_records.reduce((sum, p) => sum + p.records, 0);
  const lostRecords = deltas.gaps + ledger.lost;
  const found = [
    ["ready", "state", status.progress ? "learning" : status.starting ? "starting" : status.ready ? "ready" : "not ready", status.ready || status.starting || status.progress ? "" : "bad"],
    ["watermark-lag", "watermark lag", span(lag), lag === null ? "" : lag > 600 ? "bad" : lag > 240 ? "warn" : ""],
    ["events", "events counted", count(ledger.events), ""],
    ["duplicates", "duplicates", count(ledger.duplicates), ""],
    ["dead-letters", "dead letters", count(ledger.dead_letters_total),
      ledger.dead_letters_total > 0.01 * ledger.records ? "bad" : ledger.dead_letters_total ? "warn" : ""],
    ["late", "late events", count(ledger.late), ledger.late > 0.01 * ledger.events ? "warn" : ""],
    ["gaps", "gaps / lost", `${count(deltas.gaps)} / ${count(ledger.lost)}`, lostRecords ? "bad" : ""],
    ["consumer-lag", "records behind", count(behind), ""],
    ["store-write", "newest write to the store", status.store_write_seconds === null ? "–" : `${(1000 * status.store_write_seconds).toFixed(0)} ms`, ""],
  ];
  return el("section", { class: "panel all", "aria-label": "figures" }, el("dl", { class: "figures" }, ...found.map(([id, title, text, level]) =>
    el("div", { class: level || null, "data-testid": `figure-${id}` }, el("dt", { text: title }), el("dd", { text })))));
}

function records(status) {
  const { ledger } = status;
  const rows = [
    ["records read", exact(ledger.records)], ["without an event", exact(ledger.ignored)],
    ["dead letters", exact(ledger.dead_letters_total)], ["that gave events", exact(ledger.event_records)],
    ["events counted", exact(ledger.events)], ["duplicates, not counted again", exact(ledger.duplicates)],
    ["events of models without settings", exact(ledger.unknown_model_events)],
  ];
  const some = (title, found) => (Object.keys(found).length ? [table(title, [title, "number"],
    Object.entries(found).sort((a, b) => b[1] - a[1]).map(([name, n]) => [words(name), exact(n)]))] : []);
  return panel("What became of the records", table("ledger of records", ["ledger", "number"], rows, { testid: "ledger" }),
    ...some("dead letters by reason", ledger.dead_letters), ...some("unknown values by field", ledger.unknown_fields),
    ...some("records by codec", ledger.codecs));
}

function lag(status) {
  if (!status.lag_records.length) return null;
  const rows = [...status.lag_records].sort((a, b) => b.records - a.records);
  return panel("Records not yet read", table("lag by partition", ["topic", "partition", "records"],
    rows.slice(0, 20).map((p) => [p.topic, String(p.partition), count(p.records)])),
    rows.length > 20 ? el("p", { class: "quiet", text: `${rows.length - 20} more partitions` }) : null);
}

function stages(status) {
  const found = Object.entries(status.last_success);
  if (!found.length) return null;
  return panel("Last success of each stage", table("last success of each stage", ["stage", "ago"],
    found.map(([name, at]) => [words(name), span(status.now - at)])));
}

function unknownModels(status) {
  const told = status.unknown_models;
  if (!told?.models.length) return null;
  return panel("Models without settings",
    el("p", { class: "quiet", text: `${percent(told.requests_ratio, 1)} of the requests name a model or pool that has no settings.` }),
    table("models without settings", ["model", "pool", "share of requests", "looks like"], told.models.slice(0, 20).map((m) => [
      m.model, m.pool, percent(m.requests_ratio, 1),
      m.similar_pool ? `${m.similar_pool.model}/${m.similar_pool.pool}` : chip("nothing configured"),
    ]), { right: 2 }));
}

function bridged(status) {
  if (!status.bridged_pools.length) return null;
  return panel("Pools that the bridge tells of", table("pools of the bridge", ["pool", "counted", "ignored"],
    status.bridged_pools.slice(0, 20).map((p) => [`${p.model}/${p.pool}`, count(p.counted_requests), count(p.ignored_requests)])));
}

function clocks(status) {
  if (!status.server_clock_offsets.length) return null;
  return panel("Servers whose clock is off", table("servers whose clock is off", ["server", "ahead by"],
    status.server_clock_offsets.slice(0, 20).map((s) => [s.server, `${s.offset_seconds.toFixed(1)} s`])));
}

function about(status) {
  return panel("About", table("about", ["fact", "value"], [["version", status.version], ["settings", status.config_hash],
    ["steps since the start", count(status.steps)], ["pools", count(status.pools)]]));
}
