// What the charts of a pool are made of, as plain data: demand, the fan of the forecast, capacity, spikes.

import { known } from "./format.js";

const HOUR = 3600, DAY = 86_400;

// How far a chart goes back and ahead, and the grain of its windows.
export const SPANS = {
  "1h": { title: "1 h ahead", before: 3 * HOUR, after: HOUR, grain: 60 },
  "24h": { title: "24 h ahead", before: DAY, after: DAY, grain: 300 },
  "14d": { title: "14 d ahead", before: 7 * DAY, after: 14 * DAY, grain: HOUR },
};

export const CAPACITY = {
  requests_per_second: "capacity_requests_per_second_per_replica",
  prefill_tokens_per_second: "capacity_prefill_tokens_per_second_per_replica",
  decode_tokens_per_second: "capacity_decode_tokens_per_second_per_replica",
  kv_tokens: "capacity_kv_tokens_per_replica",
};

export const demandPoints = (windows, signal, from) =>
  windows.filter((w) => w.end >= from).map((w) => [w.end, w.rates ? w.rates[signal] : null]);

// Where windows could not be read: the means of a few minutes that the overview has, of requests only.
export function recentPoints(recent, signal, from, now) {
  if (!recent || signal !== "requests_per_second") return [];
  return recent.requests_per_second.map((value, i) => [Math.min(now, recent.start + (i + 1) * recent.step_seconds), value])
    .filter(([at]) => at >= from);
}

// Minutes first; the means of hours where minutes end. Beyond a day hours alone.
export function forecastsFor(detail, signal, span) {
  const minutes = detail.forecasts.filter((f) => f.signal === signal);
  const hours = detail.outlooks.filter((o) => o.signal === signal && o.grain === "hour").flatMap((o) => o.forecasts);
  if (span === "1h") return minutes;
  if (span === "14d") return hours;
  const last = Math.max(0, ...minutes.map((f) => f.target_at));
  return [...minutes, ...hours.filter((f) => f.target_at > last && f.horizon_seconds <= DAY)];
}

// The fan starts where demand was last seen: nothing is uncertain there.
export function fanPoints(forecasts, anchor) {
  const fan = forecasts.map((f) => ({ at: f.target_at, ...f.quantiles })).sort((a, b) => a.at - b.at);
  if (fan.length && anchor && known(anchor[1]) && anchor[0] < fan[0].at) {
    const [at, y] = anchor;
    fan.unshift({ at, q05: y, q25: y, q50: y, q75: y, q95: y });
  }
  return fan;
}

// What the replicas that ran carried, and those that were advised; `now` ends both lines on the right.
export function capacityPoints({ windows, advised, advice }, signal, from, until) {
  const per = (one) => one.evidence[CAPACITY[signal]];
  const sized = advised.filter((one) => known(per(one)));
  if (!sized.length) return { current: [], recommended: [] };
  const each = per(sized.at(-1));
  const current = windows.filter((w) => w.end >= from && known(w.current_replicas))
    .map((w) => [w.end, w.current_replicas * each]);
  if (!current.length && known(advice?.current)) current.push([advice.issued_at, advice.current * each]);
  const recommended = sized.filter((one) => one.issued_at >= from).map((one) => [one.issued_at, one.desired * per(one)]);
  if (current.length) current.push([until, current.at(-1)[1]]);
  if (recommended.length && advice) recommended.push([until, recommended.at(-1)[1]]);
  return { current, recommended };
}

export function spikeMarkers(alerts, kinds, from, until) {
  return alerts
    .map((a) => ({ kind: kinds.get(a.kind)?.spike, at: a.onset_at, active: a.active, text: a.message, ratio: a.ratio }))
    .filter((s) => s.kind && s.at >= from && s.at <= until);
}

// Everything that the main chart draws.
export function chartData({ detail, windows, advised, alerts, kinds, recent }, signal, span, now) {
  const { before, after } = SPANS[span];
  const from = now - before, until = now + after;
  const actual = windows.length ? demandPoints(windows, signal, from) : recentPoints(recent, signal, from, now);
  const anchor = [...actual].reverse().find((point) => known(point[1]));
  const fan = fanPoints(forecastsFor(detail, signal, span), anchor);
  const capacity = capacityPoints({ windows, advised, advice: detail.recommendation }, signal, from, until);
  const spikes = spikeMarkers(alerts, kinds, from, until);
  const announced = (detail.calendar ?? []).filter((e) => e.ends_at > from && e.starts_at < until)
    .map((e) => ({ kind: e.kind, from: Math.max(from, e.starts_at), until: Math.min(until, e.ends_at) }));
  const highest = Math.max(0, ...actual.map((p) => p[1] ?? 0), ...fan.map((f) => f.q95),
    ...capacity.current.map((p) => p[1]), ...capacity.recommended.map((p) => p[1]));
  return {
    signal, span, now, from, until, actual, fan, capacity: capacity.current, recommended: capacity.recommended, spikes,
    announced, top: highest > 0 ? highest * 1.12 : 1,
  };
}

// What was forecast for times that have come: points are [target time, q05, q50, q95].
export function pastData(past, windows, signal, now) {
  const from = now - SPANS["1h"].before;
  const actual = demandPoints(windows, signal, from);
  const fan = past.filter((p) => p[0] >= from && p[0] <= now).map(([at, q05, q50, q95]) => ({ at, q05, q50, q95 }));
  return { from, until: now, actual, fan, horizon: null };
}

const PERCENTILES = ["p50", "p90", "p95", "p99"];

// A latency over time at the percentile of the objective: observed, predicted for the planned load, the objective.
export function latencyData(name, { detail, windows, advised }, now) {
  const from = now - SPANS["1h"].before;
  const wanted = detail.recommendation?.evidence.slo_percentile ?? 0.95;
  const percentile = PERCENTILES.reduce((best, one) => (Math.abs(share(one) - wanted) < Math.abs(share(best) - wanted) ? one : best));
  const observed = windows.filter((w) => w.end >= from)
    .map((w) => [w.end, w[`${name}_percentiles_seconds`]?.[percentile] ?? null]);
  const predicted = advised.filter((one) => one.issued_at >= from && known(one.evidence[`predicted_${name}_seconds`]))
    .map((one) => [one.issued_at, one.evidence[`predicted_${name}_seconds`]]);
  return { from, until: now, percentile, observed, predicted, objective: detail.slo?.[`${name}_seconds`] ?? null };
}

const share = (percentile) => Number(percentile.slice(1)) / 100;
