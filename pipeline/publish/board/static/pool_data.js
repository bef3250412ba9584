// What the page of one pool needs from the server, and no more of it than is new.

import { SPANS } from "./fan.js";
import { get, live } from "./live.js";
import { alertsSince } from "./alerts_data.js";

const KEEP_ADVICE = 600;
const MISSED_SECONDS = 150; // between two pieces of advice, after which those between are fetched
const PAST_MS = 15_000;

export class PoolData {
  constructor(model, pool, changed) {
    Object.assign(this, { model, pool, changed, detail: null, gone: false, error: null, advised: null, alerts: null });
    this.windows = new Map(); // by span
    this.past = { asked: "", at: 0, forecasts: [] };
    this.step = undefined;
    this.wanted = "";
    this.loading = false;
  }

  address(kind) {
    return `${kind}/${encodeURIComponent(this.model)}/${encodeURIComponent(this.pool)}`;
  }

  // Loads what is new since the last call; one load at a time.
  async load(signal, span, horizon) {
    const wanted = `${signal} ${span} ${horizon}`;
    if (this.loading || !live.status || (this.step === live.status.advised_at && this.wanted === wanted)) return;
    this.loading = true;
    const step = live.status.advised_at, { now } = live.status;
    try {
      if (step < this.step) this.windows.clear(); // another run of the demo began
      await this.loadDetail();
      await Promise.all([
        this.loadWindows(span, now), span === "1h" ? null : this.loadWindows("1h", now),
        this.loadPast(signal, horizon), this.loadAlerts(now), this.loadAdvice(),
      ]);
      [this.step, this.wanted, this.error] = [step, wanted, null];
    } catch (error) {
      this.gone = error.status === 404;
      this.error = this.gone ? null : error.message;
    } finally {
      this.loading = false;
    }
    this.changed();
  }

  async loadDetail() {
    this.detail = await get(this.address("/board/pools"));
    this.gone = false;
  }

  async loadWindows(span, now) {
    const { before, grain: usual } = SPANS[span];
    const grain = span === "1h" ? Math.max(usual, this.detail?.window?.grain_seconds ?? usual) : usual;
    const from = now - before, seen = this.windows.get(span) ?? [], last = seen.at(-1);
    if (last && now - last.end < grain) return;
    const start = last ? last.end : Math.max(0, from - grain);
    const found = await get(
      `${this.address("/v1/windows")}?start=${Math.floor(start)}&end=${Math.ceil(now) + grain}&grain_seconds=${grain}`);
    // Windows that are still filling are fetched again when they have closed.
    const newer = found.windows.filter((w) => w.finished && (!last || w.start >= last.end));
    this.windows.set(span, seen.concat(newer).filter((w) => w.end >= from - 2 * grain));
  }

  async loadPast(signal, horizon) {
    const asked = `${signal} ${horizon}`;
    if (this.past.asked === asked && Date.now() - this.past.at < PAST_MS) return;
    const found = await get(`${this.address("/board/pools")}/past-forecasts?signal=${signal}&horizon_seconds=${horizon}`);
    this.past = { asked, at: Date.now(), forecasts: found.forecasts };
  }

  async loadAlerts(now) {
    const found = await alertsSince(now);
    this.alerts = found.filter((a) => a.model === this.model && a.pool === this.pool);
  }

  async loadAdvice() {
    const advice = this.detail.recommendation, newest = this.advised?.at(-1);
    if (!this.advised || (advice && newest && advice.issued_at - newest.issued_at > MISSED_SECONDS)) {
      const found = await get(`${this.address("/v1/recommendations")}/history?limit=200`);
      this.advised = found.recommendations.sort((a, b) => a.issued_at - b.issued_at);
    }
    const last = this.advised.at(-1);
    if (advice && (!last || last.issued_at < advice.issued_at)) this.advised.push(advice);
    this.advised = this.advised.slice(-KEEP_ADVICE);
  }

  // What the charts draw, with the windows of a span.
  charted(span) {
    const { detail, alerts } = this;
    const newest = detail.recommendation ? [detail.recommendation] : [];
    return { detail, alerts: alerts ?? [], kinds: live.kinds, advised: this.advised ?? newest, windows: this.windows.get(span) ?? [],
      recent: live.rows.get(`${this.model}|${this.pool}`)?.demand ?? null };
  }
}
