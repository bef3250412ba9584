// One line over all pools: what goes on and what to do.

import { level, missing, runsOutSoon } from "./attention.js";
import { plural } from "./format.js";

export function summary(rows, kinds, now, learning) {
  const active = rows.flatMap((row) => row.alerts);
  const said = [];
  for (const [name, { one, many }] of kinds) {
    const n = active.filter((alert) => alert.kind === name).length;
    if (n) said.push(plural(n, one, many));
  }
  const others = active.filter((alert) => !kinds.has(alert.kind)).length;
  if (others) said.push(plural(others, "other alert"));
  const soon = rows.filter((row) => runsOutSoon(row, now)).length;
  if (soon) said.push(`${plural(soon, "pool runs", "pools run")} out within the hour`);
  const raised = rows.filter((row) => missing(row) > 0);
  if (raised.length) {
    const more = raised.reduce((sum, row) => sum + missing(row), 0);
    const gpus = raised.reduce((sum, row) => sum + missing(row) * (row.accelerators_per_replica ?? 1), 0);
    said.push(`add ${plural(more, "replica")} (${plural(gpus, "GPU")}) in ${plural(raised.length, "pool")}`);
  }
  const spare = rows.filter((row) => missing(row) < 0);
  if (spare.length) {
    const fewer = spare.reduce((sum, row) => sum - missing(row), 0);
    said.push(`${plural(fewer, "replica")} may go in ${plural(spare.length, "pool")}`);
  }
  const without = rows.filter((row) => row.configured && row.desired === null).length;
  if (without && !learning) said.push(`${plural(without, "pool")} without valid advice: hold`);
  const text = said.length ? said.join("  ·  ") : learning && without ? "learning: no advice yet"
    : rows.length ? "nothing to do: every pool runs what it is advised" : "no pool yet";
  const levels = new Set(rows.map((row) => level(row, now)));
  const warned = active.length || (learning ? rows.some((row) => row.desired !== null && level(row, now) === "warning")
    : levels.has("warning"));
  return { text, level: levels.has("critical") ? "bad" : warned ? "warn" : "" };
}

// Figures over all pools.
export function totals(rows) {
  const sum = (found) => found.reduce((total, value) => total + value, 0);
  const gpus = (row, n) => n * (row.accelerators_per_replica ?? 1);
  const advised = rows.filter((row) => row.desired !== null);
  const both = advised.filter((row) => row.current !== null);
  const attained = rows.map((row) => row.slo_attainment_ratio["1h"]).filter((value) => value !== undefined);
  return {
    configured: rows.filter((row) => row.configured).length,
    valid: advised.filter((row) => row.configured).length,
    current: sum(both.map((row) => row.current)), desired: sum(both.map((row) => row.desired)), compared: both.length,
    currentGpus: sum(both.map((row) => gpus(row, row.current))),
    desiredGpus: sum(both.map((row) => gpus(row, row.desired))),
    lowestAttainment: attained.length ? Math.min(...attained) : null,
  };
}
