// The page of one pool: when it runs out and what to do, what comes, how good that was, why this number.

import { alertItem } from "./alert_item.js";
import { action, level, missing, runOut, sentence } from "./attention.js";
import { drawDemand, drawLatency, drawPast } from "./charts.js";
import { el, set, setText } from "./dom.js";
import { SPANS } from "./fan.js";
import { SIGNALS, attainment, clockNear, count, known, percent, rate, seconds, span, words } from "./format.js";
import { live, lost } from "./live.js";
import { dispose } from "./plot.js";
import { buildPool } from "./pool_layout.js";
import { PoolData } from "./pool_data.js";
import { calendar, changes, cost, forecastScores, scorecard, tenants } from "./record.js";
import { param, setParams } from "./router.js";
import { why } from "./why.js";

export function poolPage([model = "", pool = ""]) {
  const key = `${model}|${pool}`;
  const data = new PoolData(model, pool, draw);
  const parts = buildPool(model, pool);
  const chosen = () => ({
    signal: SIGNALS[param("signal")] ? param("signal") : "requests_per_second",
    span: SPANS[param("span")] ? param("span") : "1h",
    horizon: /^\d{1,5}$/.test(param("ahead")) ? param("ahead") : "900",
  });

  for (const button of parts.signals) button.addEventListener("click", () => choose({ signal: button.dataset.signal }));
  for (const button of parts.spans) button.addEventListener("click", () => choose({ span: button.dataset.span }));
  parts.horizon.addEventListener("change", () => choose({ ahead: parts.horizon.value }));

  function choose(change) {
    setParams(change);
    route();
    show();
  }

  function route() {
    const { signal, span: reach } = chosen();
    for (const button of parts.signals) set(button, "aria-pressed", String(button.dataset.signal === signal));
    for (const button of parts.spans) set(button, "aria-pressed", String(button.dataset.span === reach));
    for (const unit of parts.units) setText(unit, `, ${SIGNALS[signal].unit}`);
  }

  function show() {
    const { signal, span: reach, horizon } = chosen();
    void data.load(signal, reach, horizon);
    if (data.detail && live.status) showHead();
  }

  function showHead() {
    const { now } = live.status;
    const row = live.rows.get(key) ?? data.detail.row;
    const urgency = level(row, now);
    set(parts.element, "data-level", urgency);
    set(parts.element, "data-state", row.state);
    set(parts.element, "data-desired", row.desired ?? "");
    setText(parts.sentence, sentence(row, now, live.kinds));
    parts.bridged.hidden = !row.bridged;
    set(parts.sentence, "class", `sentence ${{ critical: "bad", warning: "warn" }[urgency] ?? ""}`.trim());
    setText(parts.state, row.state === "none" ? "no advice" : words(row.state));
    set(parts.state, "class", `chip ${row.state === "fresh" ? "good" : "warn"}`);
    const out = runOut(row, now), change = missing(row);
    const figures = {
      advised: known(row.desired) ? [count(row.desired), `between ${count(row.lower)} and ${count(row.upper)}`] : ["–", row.state === "expired" ? "expired: hold" : ""],
      running: [known(row.current) ? count(row.current) : known(row.desired) ? "not reported" : "–", change ? action(row, now) : ""],
      "runs-out": out ? [out.text, `${out.signal}${out.expected ? "" : ", possible"}`] : [known(row.desired) && known(row.current) ? "not expected" : "–", ""],
      headroom: [percent(row.headroom?.ratio).replace("-", "−"), row.headroom ? `${rate(row.headroom.needed)} needed` : ""],
      demand: [rate(row.requests_per_second), "requests/s"],
      slo: [attainment(row.slo_attainment_ratio["1h"]), known(row.slo_attainment_ratio["1d"]) ? `1 d: ${attainment(row.slo_attainment_ratio["1d"])}` : ""],
      expiry: known(row.expires_at)
        ? row.expires_at > now ? [`in ${span(row.expires_at - now)}`, `generation ${row.generation}`] : [`${span(now - row.expires_at)} ago`, ""]
        : ["–", ""],
    };
    for (const [name, [value, beside]] of Object.entries(figures)) {
      setText(parts.figures[name].value, value);
      setText(parts.figures[name].beside, beside);
    }
  }

  function draw() {
    parts.gone.hidden = !data.gone;
    parts.notice.hidden = !data.error;
    setText(parts.notice, data.error ? `Not all of this page could be read: what is shown may be old. (${data.error})` : "");
    for (const part of [parts.figureList, parts.state, parts.sentence]) part.hidden = data.gone;
    parts.content.hidden = data.gone || !data.detail;
    if (!data.detail || !live.status || !parts.element.isConnected) return;
    showHead();
    const { signal, span: reach, horizon } = chosen(), { detail } = data, { now } = detail; // as old as what is drawn
    const pending = [];
    const chart = ({ drawn, done }) => {
      pending.push(done);
      return drawn;
    };
    const demand = chart(drawDemand(parts.chart, data.charted(reach), signal, reach, now));
    const near = data.charted("1h");
    const past = data.past.asked.startsWith(signal) ? data.past.forecasts : [];
    const drawn = { ...demand, key, advice: detail.recommendation, alerts: data.alerts };
    const inWords = described(demand, signal, now, Boolean(detail.recommendation));
    set(parts.chart, "aria-label", inWords);
    setText(parts.described, inWords);
    drawn.past = chart(drawPast(parts.pastChart, past, near, signal, now));
    showHorizons(detail, signal, horizon);
    for (const name of ["ttft", "tpot"]) {
      drawn[name] = chart(drawLatency(parts.latency[name].chart, name, near, now));
      setText(parts.latency[name].told, latencyText(drawn[name]));
    }
    fillPanels(detail, signal, now);
    Promise.all(pending).then(() => {
      window.tokentide.drawn = drawn;
    }, lost);
  }

  function showHorizons(detail, signal, horizon) {
    const found = [...new Set(detail.scores.filter((s) => s.signal === signal).map((s) => s.horizon_seconds))];
    const wanted = found.length ? found.map(String) : [horizon];
    if ([...parts.horizon.options].map((o) => o.value).join() !== wanted.join()) {
      parts.horizon.replaceChildren(...wanted.map((value) => el("option", { value, text: `${span(Number(value))} ahead` })));
    }
    parts.horizon.value = horizon;
  }

  function fillPanels(detail, signal, now) {
    const put = (name, ...children) => {
      const { panel, body } = parts.panels[name], found = children.filter(Boolean);
      panel.hidden = !found.length;
      if (!body.contains(document.activeElement)) body.replaceChildren(...found);
    };
    put("why", ...why(detail.recommendation));
    put("changes", changes(data.advised ?? [], now));
    put("scorecard", scorecard(detail.scorecards));
    put("scores", forecastScores(detail.scores, signal));
    put("calendar", calendar(detail.calendar, now));
    put("tenants", tenants(detail.tenants));
    put("cost", cost(live.money.get(key)));
    const alerts = (data.alerts ?? []).slice(0, 12).map((a) => alertItem(a, live.kinds, now, { withPool: false }));
    put("alerts", alerts.length ? el("ol", { class: "alerts" }, ...alerts)
      : el("p", { class: "quiet", text: data.alerts ? "No alert in the last 24 hours." : "Past alerts could not be read." }));
  }

  return {
    element: parts.element, title: `${pool} · ${model}`, route, show, theme: draw,
    close: () => dispose([parts.chart, parts.pastChart, parts.latency.ttft.chart, parts.latency.tpot.chart]),
  };
}

const OLD_SECONDS = 240; // of the newest demand, after which it is told of as past
const soon = (left) => (left < 60 ? "within a minute" : `in ${span(left)}`);

// The chart in words, for those who do not see it.
function described(drawn, signal, now, valid) {
  const seen = [...drawn.actual].reverse().find((point) => known(point[1]));
  const last = drawn.fan.at(-1);
  const unit = SIGNALS[signal].unit;
  const peak = drawn.fan.reduce((best, f) => (best && best.q50 >= f.q50 ? best : f), null);
  return [
    !seen ? "Demand is not known" : now - seen[0] > OLD_SECONDS ? `Demand was ${rate(seen[1])} ${unit} at ${clockNear(seen[0], now)} UTC`
      : `Demand is ${rate(seen[1])} ${unit}`,
    last ? `; the median forecast reaches ${rate(peak.q50)} ${soon(peak.at - now)}, and ${rate(last.q05)} to ${rate(last.q95)} are likely ${soon(last.at - now)}` : "; there is no forecast",
    drawn.capacity.length ? `. What runs carries ${rate(drawn.capacity.at(-1)[1])}` : "",
    valid && drawn.recommended.length ? `, what is advised ${rate(drawn.recommended.at(-1)[1])}.` : ".",
  ].join("");
}

function latencyText(drawn) {
  const newest = [...drawn.observed].reverse().find((point) => known(point[1]));
  const parts = [newest ? `observed ${drawn.percentile} ${seconds(newest[1])}` : "not reported"];
  if (drawn.predicted.length) parts.push(`predicted at the planned load ${seconds(drawn.predicted.at(-1)[1])}`);
  if (known(drawn.objective)) parts.push(`objective ${seconds(drawn.objective)}`);
  return parts.map((text) => text.replace(/ (m?s)$/, "\u00a0$1")).join(" · ");
}
