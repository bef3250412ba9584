// What pools cost, as the server tells it, made ready to be shown. Unknown stays null.

import { known } from "./format.js";

export const SPANS = { "1h": "1 h", "1d": "24 h", "30d": "30 d" };
const SPAN_OF_SAVINGS = "30d";

// One pool over a span: with the replicas that ran, or those that were advised where no fleet reports any.
export function poolMoney(pool, span) {
  const found = pool.spans.find((one) => one.span === span);
  const basis = found?.ran ? "ran" : "advised";
  const { usage = null, cost = null, api = null } = found?.[basis] ?? {};
  const saved = pool.spans.find((one) => one.span === SPAN_OF_SAVINGS)?.savings_dollars;
  return {
    pool, usage, cost, basis, now: pool.dollars_per_hour_now, advised: pool.dollars_per_hour_advised,
    breakEven: api?.break_even_utilisation ?? null, ownToApi: api?.own_to_api_ratio ?? null,
    saved: saved?.against_static_peak ?? null,
  };
}

// The dearest first; those whose cost is not known come last.
export const byCost = (a, b) => {
  const [left, right] = [a, b].map((row) => row.now ?? row.advised ?? -1);
  return right - left || (`${a.pool.model}/${a.pool.pool}` < `${b.pool.model}/${b.pool.pool}` ? -1 : 1);
};

// Sums over the pools of which what is added is known, and how many those are.
export function totals(rows) {
  const sum = (some, value) => (some.length ? some.reduce((total, row) => total + value(row), 0) : null);
  const both = rows.filter((row) => known(row.now) && known(row.advised));
  const costed = rows.filter((row) => known(row.cost?.dollars));
  const used = costed.filter((row) => known(row.cost.utilisation));
  const saved = rows.filter((row) => known(row.saved));
  const tokens = sum(costed, (row) => row.usage.input_tokens + row.usage.output_tokens);
  const usedDollars = sum(used, (row) => row.cost.dollars);
  return {
    now: sum(both, (row) => row.now), advised: sum(both, (row) => row.advised), compared: both.length,
    perMillion: tokens ? (1e6 * sum(costed, (row) => row.cost.dollars)) / tokens : null, costed: costed.length,
    utilisation: usedDollars ? sum(used, (row) => row.cost.dollars * row.cost.utilisation) / usedDollars : null,
    used: used.length, saved: sum(saved, (row) => row.saved), savers: saved.length,
  };
}

// Each price once, with the number of pools that it is of.
export function prices(pools) {
  const found = new Map();
  for (const pool of pools) {
    for (const [kind, price] of [["gpu", pool.price], ["api", pool.api]]) {
      if (!price) continue;
      const name = kind === "gpu" ? pool.gpu : price.name;
      const key = JSON.stringify([kind, name, price]);
      if (!found.has(key)) found.set(key, { kind, name, price, pools: 0 });
      found.get(key).pools += 1;
    }
  }
  return [...found.values()];
}
