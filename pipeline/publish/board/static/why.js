// Why a pool is advised this number: what each currency needs, what binds, which rules changed it, what would change it.

import { chip, el, table } from "./dom.js";
import { count, interval, known, percent, plural, rate, ruleWords, seconds, span, words } from "./format.js";

// What is planned for, and what one replica carries, by the currency of a need.
const CURRENCIES = {
  requests: ["requests/s", "demand_requests_per_second", "capacity_requests_per_second_per_replica"],
  prefill_tokens: ["uncached input tokens/s", "demand_prefill_tokens_per_second", "capacity_prefill_tokens_per_second_per_replica"],
  decode_tokens: ["output tokens/s", "demand_decode_tokens_per_second", "capacity_decode_tokens_per_second_per_replica"],
  kv_tokens: ["resident KV tokens", "demand_kv_tokens", "usable_kv_tokens_per_replica"],
  observed_requests: ["requests/s, observed now", "observed_requests_per_second", "capacity_requests_per_second_per_replica"],
};
const NEED = "replicas_needed_by_";
const PROBLEM = "input_problem_";

export function needs(evidence) {
  const found = Object.entries(evidence).filter(([name]) => name.startsWith(NEED))
    .map(([name, need]) => ({ currency: name.slice(NEED.length), need }));
  const most = Math.max(...found.map(({ need }) => need));
  return found.map((one) => ({ ...one, binds: most > 0 && one.need === most })).sort((a, b) => b.need - a.need);
}

export function why(advice) {
  if (!advice) return [el("p", { class: "quiet", text: "There is no valid advice to explain." })];
  const { evidence } = advice;
  const rows = needs(evidence).map(({ currency, need, binds }) => {
    const [title, demand, capacity] = CURRENCIES[currency] || [words(currency)];
    const name = el("span", { text: title });
    if (binds) name.append(" ", chip("binds", "warn"));
    return [name, rate(evidence[demand]), rate(evidence[capacity]), need < 1000 ? need.toFixed(2) : count(need)];
  });
  return [
    el("p", { text: advice.message, "data-testid": "message" }),
    rows.length ? table("replicas needed, by kind of demand", ["demand in", "planned-for demand", "one replica carries", "replicas needed"],
      rows, { testid: "needs" }) : null,
    facts(advice),
    ...counterfactuals(advice),
  ].filter(Boolean);
}

function facts(advice) {
  const { evidence } = advice;
  const problems = Object.keys(evidence).filter((name) => name.startsWith(PROBLEM)).map((name) => words(name.slice(PROBLEM.length)));
  const found = [
    ["reason", words(advice.reason)],
    ["binding constraint", advice.constraint ? words(advice.constraint) : null],
    ["limited by", advice.clamped_by.length ? advice.clamped_by.map(words).join(", ") : null],
    ["rules that carried it", ruleOf(advice)],
    ["planned for", known(evidence.demand_quantile)
      ? `p${rate(100 * evidence.demand_quantile)} of demand, ${span(advice.horizon_seconds)} ahead` : null],
    ["lead time", known(evidence.lead_time_seconds) ? span(evidence.lead_time_seconds) : null],
    ["bounds", `${interval(advice.min_replicas, advice.max_replicas)} replicas`],
    ["a replica", `${plural(advice.accelerators_per_replica, "GPU")}, ${advice.accelerator}`],
    ["confidence", `${percent(advice.confidence_ratio)}; what a replica carries is ${words(advice.confidence)}`],
    ["predicted at that load", known(evidence.predicted_ttft_seconds)
      ? `TTFT ${seconds(evidence.predicted_ttft_seconds)}, ${seconds(evidence.predicted_tpot_seconds)} per output token` : null],
    ["mean request", known(evidence.input_tokens)
      ? `${rate(evidence.input_tokens)} tokens in (${percent(evidence.cached_share)} cached), ${rate(evidence.output_tokens)} out` : null],
    ["problems of the input", problems.length ? problems.join(", ") : null],
  ].filter(([, text]) => text);
  return el("dl", { class: "facts", "data-testid": "facts" },
    ...found.map(([title, text]) => el("div", {}, el("dt", { text: title }), el("dd", { text }))));
}

const WEIGHT = "rule_weight_";

function ruleOf({ evidence }) {
  const weights = Object.entries(evidence).filter(([name]) => name.startsWith(WEIGHT)).sort((a, b) => b[1] - a[1]);
  return weights.slice(0, 3).map(([name, weight]) => `${ruleWords(name.slice(WEIGHT.length))} (${percent(weight)})`).join(", ");
}

// How a counterfactual ends that needs as many replicas and GPUs as now.
const NOTHING = ": nothing";

function counterfactuals({ counterfactuals: found }) {
  if (!Array.isArray(found) || !found.length) return [];
  const shown = found.slice(0, 20);
  const idle = shown.filter(({ text }) => text.endsWith(NOTHING)).map(({ text }) => text.slice(0, -NOTHING.length));
  const effects = shown.filter(({ text }) => !text.endsWith(NOTHING));
  return [
    el("h3", { text: "What would change it" }),
    effects.length ? el("ul", { class: "counterfactuals", "data-testid": "counterfactuals" }, ...effects.map((one) =>
      el("li", {}, one.text, one.caveat ? el("span", { class: "quiet", text: ` (${one.caveat})` }) : null))) : null,
    idle.length ? el("p", { class: "quiet", "data-testid": "without-effect", text: `Would not change it: ${idle.join(", ")}.` }) : null,
  ];
}
