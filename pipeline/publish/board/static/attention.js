// What a pool needs, in words, and how urgently: the order of the overview and the first sentence of a pool's page.

import { SIGNALS, clockNear, known, plural, span, words } from "./format.js";

const HOUR = 3600;
const within = (at, now) => known(at) && at - now <= HOUR;

export const missing = (row) => (known(row.desired) && known(row.current) ? row.desired - row.current : 0);

export const worstAlert = (row) =>
  ["critical", "warning", "info"].find((level) => row.alerts.some((alert) => alert.severity === level)) || "";

// What the alert of a pool is called that matters most, and how many more there are; null: there is none.
export function alertTitle(row, kinds) {
  const worst = row.alerts.find((alert) => alert.severity === worstAlert(row));
  if (!worst) return null;
  return (kinds.get(worst.kind)?.title || words(worst.kind)) + (row.alerts.length > 1 ? ` +${row.alerts.length - 1}` : "");
}

// critical: act now. warning: look. move: advice differs from what runs, or may soon. quiet: nothing to do.
export function level(row, now) {
  const expected = within(row.run_out?.expected_at, now), possible = within(row.run_out?.possible_at, now);
  const alert = worstAlert(row), more = missing(row) > 0;
  if (alert === "critical" || (expected && more)) return "critical";
  if (row.state === "expired" || (row.configured && row.state === "none")) return "warning";
  if (alert === "warning" || expected || (possible && more)) return "warning";
  if (row.constraint === "slo_infeasible" || !["fresh", "none"].includes(row.state)) return "warning";
  return missing(row) !== 0 || possible ? "move" : "quiet";
}

const ORDER = { critical: 0, warning: 1, move: 2, quiet: 3 };
const soon = (at) => (known(at) ? at : Infinity);
const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);

const SORTS = {
  attention: (now) => (a, b) =>
    compare(ORDER[level(a, now)], ORDER[level(b, now)]) ||
    compare(soon(a.run_out?.expected_at), soon(b.run_out?.expected_at)) ||
    compare(soon(a.run_out?.possible_at), soon(b.run_out?.possible_at)) || compare(missing(b), missing(a)),
  name: () => () => 0,
  demand: () => (a, b) => compare(b.requests_per_second ?? -1, a.requests_per_second ?? -1),
  headroom: () => (a, b) => compare(a.headroom?.ratio ?? Infinity, b.headroom?.ratio ?? Infinity),
  change: () => (a, b) => compare(Math.abs(missing(b)), Math.abs(missing(a))),
  slo: () => (a, b) => compare(a.slo_attainment_ratio["1h"] ?? 2, b.slo_attainment_ratio["1h"] ?? 2),
};
export const SORT_NAMES = {
  attention: "needs attention", name: "name", demand: "demand", headroom: "least headroom", change: "largest change",
  slo: "lowest SLO attainment",
};

const named = (row) => `${row.model}/${row.pool}`;

export function sorted(rows, by, now) {
  const order = (SORTS[by] || SORTS.attention)(now);
  return [...rows].sort((a, b) => order(a, b) || compare(named(a), named(b)));
}

export const runsOutSoon = (row, now) => within(row.run_out?.expected_at, now);

// "in 25 min" of when the running replicas run out, whether that is expected or only possible, and how much it matters:
// bad: expected within the hour; warn: expected later, or possible within the hour.
export function runOut(row, now) {
  const found = row.run_out;
  if (!found) return null;
  const expected = known(found.expected_at);
  const at = expected ? found.expected_at : found.possible_at;
  const text = at - now < 60 ? "now" : `in ${span(at - now)}`;
  const tone = expected ? (within(at, now) ? "bad" : "warn") : within(at, now) ? "warn" : "";
  return { at, expected, text, tone, signal: SIGNALS[found.signal]?.name || words(found.signal) };
}

export const replicas = (n) => plural(n, "replica");

export function action(row, now) {
  const change = missing(row);
  if (!row.configured) return "no settings: not sized";
  if (row.state === "expired") return "hold: the advice has expired";
  if (row.state === "none") return "hold: no advice yet";
  if (row.constraint === "slo_infeasible") return "no number of replicas holds the latency objective";
  if (!known(row.current)) return `run ${replicas(row.desired)}`;
  if (change > 0) return `add ${replicas(change)}`;
  // A pool that runs out later than its lead time may have too many until then.
  if (change < 0) return `${replicas(-change)} may go${row.run_out ? " for now" : ""}`;
  return row.run_out ? `nothing to do yet${whyNot(row, now)}` : "nothing to do";
}

// Why nothing is to be done about a pool that runs out: there is time, or what is planned for does not exceed what runs.
function whyNot(row, now) {
  const { at } = runOut(row, now);
  if (row.clamped_by.includes("max_replicas")) return " (the maximum of replicas runs)";
  if (known(row.lead_time_seconds)) {
    const latest = Math.floor((at - row.lead_time_seconds) / 60) * 60;
    if (latest > now) return ` (a replica ordered by ${clockNear(latest, now)} is ready in time)`;
  }
  return " (the demand that is planned for fits what runs)";
}

// When it runs out, why, what to do, and which alert says so.
export function sentence(row, now, kinds) {
  const out = runOut(row, now), alert = alertTitle(row, kinds);
  const verb = out?.expected ? "runs out" : "may run out";
  const said = out ? `${capital(verb)} ${out.text} (${out.signal}): ${action(row, now)}.` : `${capital(action(row, now))}.`;
  return alert ? `${said} Alert: ${alert}.` : said;
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
