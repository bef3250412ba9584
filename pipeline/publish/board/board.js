// Polls the API once a second and shows what it says. Text goes in through textContent only.
"use strict";

(() => {
  const POLL_MS = 1000;
  const TIMEOUT_MS = 8000;
  const REFRESH_MS = 10_000;
  const MAX_CARDS = 12;
  const KEEP_ADVICE = 600;
  const ALERT_SECONDS = 6 * 3600;
  const UNITS = {
    requests_per_second: "requests/s", prefill_tokens_per_second: "uncached prefill tokens/s",
    decode_tokens_per_second: "decode tokens/s", kv_tokens: "tokens resident in the KV cache",
  };
  const KINDS = {
    spike_observed: "Spike observed", spike_forecast: "Spike forecast", slo_infeasible: "SLO infeasible",
    telemetry_gap: "Telemetry gap",
  };
  const ARROWS = { up: "▲", down: "▼", hold: "=" };

  const state = { status: null, pools: new Map(), alerts: [], signal: "requests_per_second", filter: "", loaded: null, loadedAt: 0 };
  // For people and tests: what was fetched and drawn last.
  window.tokentide = { status: null, pools: {}, alerts: [], signal: state.signal, polls: 0, failures: 0, connected: false };

  const byId = (id) => document.getElementById(id);
  const part = (root, name) => root.querySelector(`[data-testid="${name}"]`);
  const count = new Intl.NumberFormat("en-US");
  const compact = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });
  const whole = (n) => (n < 100_000 ? count.format(n) : compact.format(n));
  const clockTime = (seconds) => new Date(seconds * 1000).toISOString().slice(11, 16);

  function span(seconds) {
    const s = Math.max(0, Math.round(seconds));
    if (s < 120) return `${s} s`;
    if (s < 7200) return `${Math.round(s / 60)} min`;
    return `${(s / 3600).toFixed(1)} h`;
  }

  async function get(path) {
    const response = await fetch(path, { signal: AbortSignal.timeout(TIMEOUT_MS), cache: "no-store" });
    if (!response.ok) throw new Error(`${path}: HTTP ${response.status}`);
    return response.json();
  }

  const address = (kind, pool) => `/v1/${kind}/${encodeURIComponent(pool.model)}/${encodeURIComponent(pool.pool)}`;

  async function poll() {
    const status = await get("/v1/status");
    const restarted = state.status && status.as_of !== null && status.as_of < state.loaded;
    if (restarted) state.pools.clear();
    const old = Date.now() - state.loadedAt > REFRESH_MS;
    if (restarted || status.as_of !== state.loaded || state.stale || state.status === null || old) await refresh(status);
    for (const pool of state.pools.values()) expire(pool, status.now);
    state.status = status;
  }

  // Nothing new may ever come: what has run out goes by the clock.
  function expire(pool, now) {
    if (!pool.advice || pool.advice.expires_at > now) return;
    pool.expired_at = pool.advice.expires_at;
    pool.advice = null;
    pool.forecasts = [];
  }

  async function refresh(status) {
    state.stale = false; // what is asked for meanwhile (another signal) makes it stale again
    const [listed, alerts] = await Promise.all([
      get("/v1/pools"), get(`/v1/alerts?since=${Math.max(0, status.now - ALERT_SECONDS)}`),
    ]);
    state.alerts = alerts.alerts;
    const known = new Map();
    for (const pool of listed.pools) {
      const key = `${pool.model}|${pool.pool}`;
      const before = state.pools.get(key) || { windows: [], forecasts: [], advised: null };
      known.set(key, { ...before, ...pool, key, advice: pool.recommendation, all: state.alerts.filter(
        (a) => a.model === pool.model && a.pool === pool.pool) });
    }
    state.pools = known;
    await Promise.all(shown().map((pool) => load(pool, status.now)));
    state.loaded = status.as_of;
    state.loadedAt = Date.now();
  }

  // History is fetched whole once, then only what is new.
  async function load(pool, now) {
    const from = now - tokentideChart.BEFORE_SECONDS;
    const last = pool.windows.length ? pool.windows[pool.windows.length - 1] : null;
    const start = last ? last.end : Math.max(0, from - 60);
    const jobs = [get(`${address("forecasts", pool)}?signal=${state.signal}`)];
    jobs.push(start < now ? get(`${address("windows", pool)}?start=${start}&end=${now + 60}`) : { windows: [] });
    if (pool.advised === null) jobs.push(get(`${address("recommendations", pool)}/history?limit=200`));
    const [forecasts, windows, history] = await Promise.all(jobs);
    pool.forecasts = forecasts.forecasts;
    // Windows that are still filling are fetched again when they have closed.
    const newer = windows.windows.filter((w) => w.finished && (!last || w.start >= last.end));
    pool.windows = pool.windows.concat(newer).filter((w) => w.end >= from - 120);
    if (history) pool.advised = history.recommendations.sort((a, b) => a.issued_at - b.issued_at);
    const newest = pool.advised[pool.advised.length - 1];
    if (pool.advice && (!newest || newest.issued_at < pool.advice.issued_at)) pool.advised.push(pool.advice);
    pool.advised = pool.advised.slice(-KEEP_ADVICE);
  }

  const worst = (pool) => {
    const active = pool.alerts || [];
    if (active.some((a) => a.severity === "critical")) return 0;
    if (active.length) return 1;
    if (!pool.advice) return 2;
    return pool.advice.direction === "up" ? 3 : 4;
  };

  function shown() {
    const wanted = [...state.pools.values()].filter((p) => p.key.toLowerCase().includes(state.filter));
    if (wanted.length > MAX_CARDS) wanted.sort((a, b) => worst(a) - worst(b) || a.key.localeCompare(b.key));
    return wanted.slice(0, MAX_CARDS);
  }

  function tile(id, text, value, level) {
    const element = part(document, id);
    element.lastElementChild.textContent = text;
    element.dataset.value = value === null ? "" : String(value);
    element.className = level || "";
  }

  function showHealth(status) {
    const { ledger, deltas } = status;
    const lag = status.watermark_lag_seconds;
    const behind = status.lag_records.reduce((sum, p) => sum + p.records, 0);
    const lost = deltas.gaps + ledger.lost;
    byId("event-time").textContent = new Date(status.now * 1000).toISOString().slice(0, 19).replace("T", " ");
    byId("version").textContent = `v${status.version}`;
    const ready = byId("ready");
    ready.textContent = status.ready ? "ready" : status.detail || "not ready";
    ready.className = `pill ${status.ready ? "good" : "bad"}`;
    tile("watermark-lag", lag === null ? "–" : span(lag), lag, lag === null ? "" : lag > 600 ? "bad" : lag > 240 ? "warn" : "");
    tile("events", whole(ledger.events), ledger.events);
    tile("duplicates", whole(ledger.duplicates), ledger.duplicates);
    tile("dead-letters", whole(ledger.dead_letters_total), ledger.dead_letters_total,
      ledger.dead_letters_total > 0.01 * ledger.records ? "bad" : ledger.dead_letters_total ? "warn" : "");
    part(document, "dead-letters").title = Object.entries(ledger.dead_letters).map((e) => e.join(": ")).join("\n") || "none";
    tile("late", whole(ledger.late), ledger.late, ledger.late > 0.01 * ledger.events ? "warn" : "");
    tile("gaps", `${whole(deltas.gaps)} / ${whole(ledger.lost)}`, lost, lost ? "bad" : "");
    tile("consumer-lag", whole(behind), behind);
  }

  function showSummary() {
    const pools = [...state.pools.values()];
    const active = pools.flatMap((p) => p.alerts || []);
    const said = [];
    const kinds = [["spike_observed", "spike observed", "spikes observed"], ["spike_forecast", "spike forecast", "spikes forecast"],
      ["slo_infeasible", "SLO infeasible", "SLOs infeasible"], ["telemetry_gap", "telemetry gap", "telemetry gaps"]];
    for (const [kind, one, many] of kinds) {
      const n = active.filter((a) => a.kind === kind).length;
      if (n) said.push(`${n} ${n === 1 ? one : many}`);
    }
    let replicas = 0; let accelerators = 0; let raised = 0;
    for (const { advice } of pools) {
      if (!advice || advice.direction !== "up" || advice.current === null) continue;
      const more = advice.desired - advice.current;
      if (more <= 0) continue;
      raised += 1; replicas += more; accelerators += more * advice.accelerators_per_replica;
    }
    if (raised) said.push(`add ${replicas} replica${replicas === 1 ? "" : "s"} (${accelerators} GPU${accelerators === 1 ? "" : "s"}) in ${raised} pool${raised === 1 ? "" : "s"}`);
    const without = pools.filter((p) => p.configured && !p.advice).length;
    if (without) said.push(`${without} pool${without === 1 ? "" : "s"} without valid advice: hold`);
    const summary = byId("summary");
    summary.textContent = said.length ? said.join("  ·  ") : pools.length ? "all pools within their bands" : "no pool yet";
    const bad = active.some((a) => a.severity === "critical" || a.kind === "slo_infeasible");
    summary.className = bad ? "bad" : active.length || without ? "warn" : "";
    byId("filter").hidden = pools.length <= 4;
  }

  function chip(text, level) {
    const element = document.createElement("span");
    element.className = `chip ${level || ""}`;
    element.textContent = text;
    return element;
  }

  function cardOf(pool) {
    const cards = byId("cards");
    for (const card of cards.children) if (card.dataset.key === pool.key) return card;
    const card = byId("card-template").content.firstElementChild.cloneNode(true);
    Object.assign(card.dataset, { key: pool.key, model: pool.model, pool: pool.pool });
    const [name, model] = card.querySelector(".name").children;
    name.textContent = pool.pool;
    model.textContent = model.title = pool.model;
    return card;
  }

  // Who sends most of the newest window, where windows are broken down by tenant.
  function heaviest({ window }) {
    const told = window && window.breakdown ? window.breakdown.tenant : null;
    if (!told) return [];
    return told.parts.filter((part) => part.value !== "*").slice(0, 2).map(
      (part) => chip(`${part.value.slice(0, 20)} ${Math.round((100 * part.requests) / window.requests)} %`));
  }

  function showCard(card, pool, now) {
    const { advice } = pool;
    const alerts = pool.alerts || [];
    const severity = ["critical", "warning"].find((level) => alerts.some((a) => a.severity === level)) || "";
    card.className = `card ${advice ? advice.direction : "expired"} ${severity}`;
    const drawn = advice
      ? { desired: advice.desired, lower: advice.lower, upper: advice.upper,
          current: advice.current ?? "", direction: advice.direction, state: advice.state, reason: advice.reason,
          generation: advice.generation, expiresAt: advice.expires_at }
      : { desired: "", lower: "", upper: "", current: "", direction: "", state: "none", reason: "", generation: "", expiresAt: "" };
    Object.assign(card.dataset, drawn);
    const chips = part(card, "chips");
    if (!advice) {
      part(card, "desired").textContent = "–";
      part(card, "direction").textContent = "";
      part(card, "interval").textContent = pool.expired_at ? "advice expired: hold" : "no advice yet";
      const running = pool.window ? pool.window.current_replicas : null;
      part(card, "current").textContent = running === null || running === undefined ? "" : `running ${running}`;
      part(card, "message").textContent = pool.configured ? "" : "No settings for this pool: it is forecast but not sized.";
      chips.replaceChildren(chip("no valid advice", "warn"), ...heaviest(pool));
      part(card, "age").textContent = "";
      part(card, "expiry").textContent = pool.expired_at ? `expired ${span(now - pool.expired_at)} ago` : "";
      return;
    }
    const difference = advice.current === null ? null : advice.desired - advice.current;
    part(card, "desired").textContent = String(advice.desired);
    part(card, "direction").textContent = ARROWS[advice.direction] || "";
    part(card, "interval").textContent = `${advice.lower}–${advice.upper} replicas`;
    const change = difference ? ` · ${difference > 0 ? "+" : "−"}${Math.abs(difference)}` : "";
    part(card, "current").textContent = advice.current === null ? "running: not reported" : `running ${advice.current}${change}`;
    part(card, "message").textContent = part(card, "message").title = advice.message;
    const gpus = advice.desired * advice.accelerators_per_replica;
    chips.replaceChildren(
      chip(advice.state.replace("_", " "), advice.state === "fresh" ? "good" : "warn"),
      chip(`${advice.confidence} ${Math.round(advice.confidence_ratio * 100)} %`, advice.confidence === "refused" ? "bad" : ""),
      chip(`${gpus} × ${advice.accelerator}`),
      ...(advice.constraint ? [chip(advice.constraint.replaceAll("_", " "), advice.constraint === "slo_infeasible" ? "bad" : "")] : []),
      ...advice.clamped_by.map((by) => chip(`limited by ${by}`, "warn")),
      ...heaviest(pool),
    );
    part(card, "age").textContent = `${span(now - advice.issued_at)} old · gen ${advice.generation}`;
    part(card, "expiry").textContent = `expires in ${span(advice.expires_at - now)}`;
  }

  function showChart(card, pool, now) {
    const element = part(card, "chart");
    const drawn = tokentideChart.draw(element, { ...pool, alerts: pool.all || [] }, state.signal, now);
    Object.assign(element.dataset, {
      signal: drawn.signal, actual: drawn.actual.length, fan: drawn.fan.length, capacity: drawn.capacity.length,
      recommended: drawn.recommended.length, spikes: drawn.spikes.map((s) => s.kind).join(" "),
    });
    return drawn;
  }

  function showAlerts() {
    const list = byId("alerts");
    const items = state.alerts.slice(0, 60).map((alert) => {
      const item = document.createElement("li");
      item.className = `${alert.kind} ${alert.active ? "" : "ended"}`;
      Object.assign(item.dataset, { testid: "alert", id: alert.alert_id, kind: alert.kind, active: alert.active });
      const head = document.createElement("div");
      head.className = "head";
      const kind = document.createElement("b");
      kind.textContent = KINDS[alert.kind] || alert.kind;
      const time = document.createElement("time");
      time.textContent = alert.active ? `${clockTime(alert.raised_at)} · active` : `${clockTime(alert.raised_at)}–${clockTime(alert.ended_at)}`;
      head.append(kind, time);
      const where = document.createElement("div");
      where.className = "where";
      where.textContent = `${alert.pool} · ${alert.model}`;
      const text = document.createElement("div");
      text.className = "text";
      const named = `${alert.model}/${alert.pool}: `; // the line above says it already
      const message = alert.message.startsWith(named) ? alert.message.slice(named.length) : alert.message;
      text.textContent = alert.kind === "spike_forecast" ? `onset ${clockTime(alert.onset_at)}: ${message}` : message;
      item.append(head, where, text);
      return item;
    });
    if (!items.length) {
      const none = document.createElement("li");
      none.className = "none";
      none.textContent = "none in the last 6 hours";
      items.push(none);
    }
    list.replaceChildren(...items);
    const active = state.alerts.filter((a) => a.active).length;
    byId("alert-count").textContent = active ? `${active} active` : "";
  }

  function show() {
    const { status } = state;
    showHealth(status);
    showSummary();
    showAlerts();
    const pools = shown();
    const cards = byId("cards");
    const wanted = pools.map(cardOf);
    if (wanted.length !== cards.children.length || wanted.some((card, i) => cards.children[i] !== card)) cards.replaceChildren(...wanted);
    const drawn = {};
    pools.forEach((pool, i) => {
      showCard(wanted[i], pool, status.now);
      if (pool.advised !== null) drawn[pool.key] = { ...pool, drawn: showChart(wanted[i], pool, status.now) };
    });
    const hidden = [...state.pools.values()].length - pools.length;
    byId("more").hidden = hidden <= 0;
    byId("more").textContent = `${hidden} more pools: filter to see them`;
    Object.assign(window.tokentide, { status, pools: drawn, alerts: state.alerts, signal: state.signal });
  }

  let lastGood = null;

  function connection(error) {
    const banner = byId("banner");
    window.tokentide.connected = !error;
    document.body.classList.toggle("lost", Boolean(error));
    banner.hidden = !error;
    if (!error) {
      lastGood = Date.now();
      return;
    }
    window.tokentide.failures += 1;
    window.tokentide.error = String(error);
    const since = lastGood === null ? "no data yet" : `last data ${span((Date.now() - lastGood) / 1000)} ago`;
    banner.textContent = `Connection lost: ${since}. Hold; do not act on what is shown.`;
  }

  // The next poll is set only when this one is over: requests never overlap.
  let running = false;
  async function tick() {
    if (running) return;
    running = true;
    try {
      await poll();
      show();
      connection(null);
    } catch (error) {
      state.stale = true;
      connection(error);
    } finally {
      running = false;
      window.tokentide.polls += 1;
      setTimeout(tick, POLL_MS);
    }
  }

  byId("signals").addEventListener("click", (event) => {
    const { signal } = event.target.dataset;
    if (!signal) return;
    state.signal = signal;
    state.stale = true;
    for (const button of byId("signals").children) button.setAttribute("aria-pressed", String(button.dataset.signal === signal));
    byId("unit").textContent = UNITS[signal];
  });
  byId("filter").addEventListener("input", (event) => {
    state.filter = event.target.value.trim().toLowerCase();
    state.stale = true;
  });
  tick();
})();
