// Draws one pool: demand, forecast fan, capacity, spikes. Takes plain data, returns what it drew.
"use strict";

const tokentideChart = (() => {
  const BEFORE_SECONDS = 2 * 3600;
  const AFTER_SECONDS = 3600;
  const COLOUR = {
    actual: "#f2f6fa", forecast: "#4c9aff", inner: "rgba(76,154,255,.26)", outer: "rgba(76,154,255,.13)",
    capacity: "#9aa7b4", recommended: "#35c48d", observed: "#ff5c5c", onset: "#f5a623", grid: "#1b2530", now: "#4a5866",
  };
  const SPIKES = { spike_observed: "observed", spike_forecast: "forecast" };

  const date = (seconds) => new Date(seconds * 1000);

  function line(name, points, style) {
    return {
      name, type: "scatter", mode: "lines", x: points.map((p) => date(p[0])), y: points.map((p) => p[1]),
      hovertemplate: "%{y:.4~g}", connectgaps: false, ...style,
    };
  }

  // Two traces: an invisible lower edge, and the upper edge filled down to it.
  function band(name, fan, low, high, colour) {
    const edge = { line: { width: 0 }, hoverinfo: "skip", hovertemplate: undefined };
    return [
      line(`${name} lower`, fan.map((f) => [f.at, f[low]]), edge),
      line(name, fan.map((f) => [f.at, f[high]]), { ...edge, fill: "tonexty", fillcolor: colour }),
    ];
  }

  function demandPoints(windows, signal, from) {
    return windows.filter((w) => w.end >= from).map((w) => [w.end, w.rates ? w.rates[signal] : null]);
  }

  function fanPoints(forecasts, signal, anchor) {
    const fan = forecasts
      .filter((f) => f.signal === signal)
      .map((f) => ({ at: f.target_at, ...f.quantiles }))
      .sort((a, b) => a.at - b.at);
    // The fan starts where demand was last seen: nothing is uncertain there.
    if (fan.length && anchor && anchor[1] !== null && anchor[0] < fan[0].at) {
      const [at, y] = anchor;
      fan.unshift({ at, q05: y, q25: y, q50: y, q75: y, q95: y });
    }
    return fan;
  }

  const CAPACITY = {
    requests_per_second: "capacity_requests_per_second_per_replica",
    prefill_tokens_per_second: "capacity_prefill_tokens_per_second_per_replica",
    decode_tokens_per_second: "capacity_decode_tokens_per_second_per_replica",
    kv_tokens: "capacity_kv_tokens_per_replica",
  };

  function capacityPoints(pool, signal, from, until) {
    const per = (advice) => advice.evidence[CAPACITY[signal]];
    const advised = pool.advised.filter((a) => per(a) !== undefined && per(a) !== null);
    if (!advised.length) return { current: [], recommended: [] };
    const perReplica = per(advised[advised.length - 1]);
    const current = pool.windows
      .filter((w) => w.end >= from && w.current_replicas !== null && w.current_replicas !== undefined)
      .map((w) => [w.end, w.current_replicas * perReplica]);
    const recommended = advised.filter((a) => a.issued_at >= from).map((a) => [a.issued_at, a.desired * per(a)]);
    for (const points of [current, recommended]) {
      if (points.length && (points === current || pool.advice)) points.push([until, points[points.length - 1][1]]);
    }
    return { current, recommended };
  }

  function spikeMarkers(alerts, from, until) {
    return alerts
      .filter((a) => a.kind in SPIKES && a.onset_at >= from && a.onset_at <= until)
      .map((a) => ({ kind: SPIKES[a.kind], at: a.onset_at, active: a.active, text: a.message, ratio: a.ratio }));
  }

  function draw(element, pool, signal, now) {
    const from = now - BEFORE_SECONDS;
    const until = now + AFTER_SECONDS;
    const actual = demandPoints(pool.windows, signal, from);
    const fan = fanPoints(pool.forecasts, signal, actual[actual.length - 1]);
    const capacity = capacityPoints(pool, signal, from, until);
    const spikes = spikeMarkers(pool.alerts, from, until);
    const highest = Math.max(
      0, ...actual.map((p) => p[1] ?? 0), ...fan.map((f) => f.q95), ...capacity.current.map((p) => p[1]),
      ...capacity.recommended.map((p) => p[1]),
    );
    const top = highest > 0 ? highest * 1.12 : 1;
    const traces = [
      ...band("5–95 %", fan, "q05", "q95", COLOUR.outer),
      ...band("25–75 %", fan, "q25", "q75", COLOUR.inner),
      line("capacity now", capacity.current, { line: { color: COLOUR.capacity, width: 1.5, shape: "hv" } }),
      line("recommended capacity", capacity.recommended, { line: { color: COLOUR.recommended, width: 1.75, shape: "hv" } }),
      line("forecast median", fan.map((f) => [f.at, f.q50]), { line: { color: COLOUR.forecast, width: 2, dash: "dash" } }),
      line("demand", actual, { line: { color: COLOUR.actual, width: 1.75 } }),
      {
        name: "spikes", type: "scatter", mode: "markers", x: spikes.map((s) => date(s.at)), y: spikes.map(() => top),
        text: spikes.map((s) => s.text), hovertemplate: "%{text}<extra></extra>", cliponaxis: false,
        marker: {
          symbol: "triangle-down", size: 11, color: spikes.map((s) => COLOUR[s.kind === "observed" ? "observed" : "onset"]),
        },
      },
    ];
    const vertical = (at, style) => ({
      type: "line", xref: "x", yref: "paper", x0: date(at), x1: date(at), y0: 0, y1: 1, line: style,
    });
    const layout = {
      autosize: true, showlegend: false, hovermode: "x unified", dragmode: false, uirevision: "fixed",
      margin: { l: 46, r: 14, t: 12, b: 24 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: "#8a98a8", size: 11 },
      hoverlabel: { bgcolor: "#161e27", bordercolor: "#212c38", font: { color: "#dbe3ec", size: 11 } },
      xaxis: { type: "date", range: [date(from), date(until)], gridcolor: COLOUR.grid, zeroline: false, tickformat: "%H:%M",
        fixedrange: true, nticks: 10, hoverformat: "%H:%M UTC" },
      yaxis: { range: [0, top], gridcolor: COLOUR.grid, zeroline: false, nticks: 5, fixedrange: true, tickformat: "~s" },
      shapes: [
        { type: "rect", xref: "x", yref: "paper", x0: date(now), x1: date(until), y0: 0, y1: 1, layer: "below",
          fillcolor: "rgba(76,154,255,.045)", line: { width: 0 } },
        vertical(now, { color: COLOUR.now, width: 1, dash: "dot" }),
        ...spikes.map((s) => vertical(s.at, s.kind === "observed"
          ? { color: COLOUR.observed, width: 1.5 } : { color: COLOUR.onset, width: 1.5, dash: "dash" })),
      ],
      annotations: [{ x: date(now), y: 1, xref: "x", yref: "paper", text: "now", showarrow: false, yanchor: "bottom",
        font: { size: 10, color: COLOUR.capacity } }],
    };
    Plotly.react(element, traces, layout, { displayModeBar: false, responsive: true });
    return { signal, now, actual, fan, capacity: capacity.current, recommended: capacity.recommended, spikes, top };
  }

  return { draw, BEFORE_SECONDS };
})();
