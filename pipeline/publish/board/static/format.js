// Numbers, times and the names of things as people read them. Unknown is "–", never 0.

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });

export const known = (value) => value !== null && value !== undefined && Number.isFinite(value);

export function count(value) {
  if (!known(value)) return "–";
  return Math.abs(value) < 100_000 ? whole.format(value) : compact.format(value);
}

// Every digit: of numbers that must add up.
export const exact = (value) => (known(value) ? whole.format(value) : "–");

// Three digits or so: 0.42, 14.2, 1,420, 23.1K.
export function rate(value) {
  if (!known(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 10_000) return compact.format(value);
  if (size >= 100) return whole.format(value);
  return String(Number(value.toPrecision(size >= 1 ? 3 : 2)));
}

export const percent = (ratio, digits = 0) => (known(ratio) ? `${(100 * ratio).toFixed(digits)} %` : "–");

// Of a probability: what is not certain is not shown as 0 or 100 %.
export function probability(p) {
  if (!known(p)) return "–";
  return p > 0.99 && p < 1 ? "above 99 %" : p > 0 && p < 0.01 ? "below 1 %" : percent(p);
}

// An interval of whole numbers.
export const interval = (lower, upper) => (known(lower) && known(upper) ? `${count(lower)}–${count(upper)}` : "");

// Attainment is told to a tenth below 99.95 %, so that 99.9 is not shown as 100.
export const attainment = (ratio) => (known(ratio) ? `${(Math.floor(1000 * ratio + 1e-9) / 10).toFixed(1)} %` : "–");

export function seconds(value) {
  if (!known(value)) return "–";
  return value < 1 ? `${rate(1000 * value)} ms` : `${rate(value)} s`;
}

export function span(value) {
  if (!known(value)) return "–";
  const s = Math.max(0, Math.round(value));
  if (s < 120) return `${s} s`;
  if (s < 7200) return `${Math.round(s / 60)} min`;
  if (s < 172_800) return `${Number((s / 3600).toFixed(1))} h`;
  return `${Math.round(s / 86_400)} d`;
}

// Cents as on a bill: $4.50, $31.92, $1,420; below ten cents two digits: $0.0052.
export function dollars(value) {
  if (!known(value)) return "–";
  const size = Math.abs(value);
  return `${value < 0 ? "−" : ""}$${size >= 0.1 && size < 100 ? size.toFixed(2) : rate(size)}`;
}

const iso = (at) => new Date(at * 1000).toISOString();
const sane = (at) => known(at) && Math.abs(at) < 8.64e12;
export const clock = (at) => (sane(at) ? iso(at).slice(11, 16) : "–");
export const stamp = (at) => (sane(at) ? iso(at).slice(0, 19).replace("T", " ") : "–");

// The time alone while it is of the same day, else with the day before it.
export function clockNear(at, now) {
  if (!sane(at)) return "–";
  return Math.abs(at - now) < 43_200 ? clock(at) : `${iso(at).slice(5, 10)} ${clock(at)}`;
}

// From one time until another, the day told once where it is the same.
export function clockSpan(from, until, now) {
  const sameDay = sane(from) && sane(until) && iso(from).slice(0, 10) === iso(until).slice(0, 10);
  return `${clockNear(from, now)}–${sameDay ? clock(until) : clockNear(until, now)}`;
}

// "1 d" of the name of a span, "1d".
export const spanName = (name) => String(name).replace(/^(\d+)([a-z]+)$/, "$1 $2");

export const words = (name) => String(name).replaceAll("_", " ");

// What a decision rule provisions for, as the messages say it (sizing/wording.py).
const RULES = [
  [/^forecast_q([\d.]+)$/, (level) => [`the forecast's ${level} % quantile`, "1"]],
  [/^observed_x([\d.]+)$/, (by) => ["observed demand", by]],
  [/^peak_(\d+)_x([\d.]+)$/, (windows, by) => [`the peak of the last ${windows} windows`, by]],
  [/^season_x([\d.]+)$/, (by) => ["the peak at this time of the last season", by]],
  [/^trend_x([\d.]+)$/, (by) => ["the trend", by]],
];

export function ruleWords(name) {
  for (const [form, said] of RULES) {
    const found = form.exec(name);
    if (found) {
      const [text, by] = said(...found.slice(1));
      return Number(by) === 1 ? text : `${text} × ${by}`;
    }
  }
  return words(name);
}

export const times = (ratio) => (known(ratio) ? `${ratio < 10 ? Number(ratio.toFixed(1)) : Math.round(ratio)}×` : "–");

export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

export const SIGNALS = {
  requests_per_second: { name: "requests", unit: "requests/s", short: "req/s" },
  prefill_tokens_per_second: { name: "prefill", unit: "uncached input tokens/s", short: "tok/s in" },
  decode_tokens_per_second: { name: "decode", unit: "output tokens/s", short: "tok/s out" },
  kv_tokens: { name: "KV cache", unit: "tokens resident in the KV cache", short: "KV tokens" },
};

export const keyOf = (pool) => `${pool.model}|${pool.pool}`;

// What it means that a pool's demand is from `tokentide bridge`, not from request events.
export const BRIDGED = "The demand is from the servers' Prometheus metrics; there are no request events. "
  + "Spikes shorter than a scrape are flattened, percentiles are as coarse as the servers' buckets; "
  + "tenants, regions and requests that a gateway refused or a client left are unknown.";
