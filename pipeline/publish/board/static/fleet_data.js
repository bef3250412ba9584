// What the fleet costs, and its split over the stock: asked for after a step, not more often than every few seconds.

import { get, live } from "./live.js";

const WAIT_MS = 5000;
const MOST_PAGES = 10; // of 1,000 pools

export class FleetData {
  constructor(changed) {
    Object.assign(this, { changed, pools: null, cut: false, split: null, shared: true, errors: [] });
    this.step = undefined;
    this.askedAt = -Infinity;
    this.loading = false;
  }

  async load() {
    if (this.loading || !live.status || !live.overview || this.step === live.status.as_of || Date.now() - this.askedAt < WAIT_MS) return;
    this.loading = true;
    this.askedAt = Date.now();
    const step = live.status.as_of;
    // A split may take a while: money is shown before it.
    const found = await Promise.allSettled([this.loadMoney().then(this.changed), this.loadSplit()]);
    this.errors = found.filter((one) => one.status === "rejected").map((one) => one.reason.message);
    if (!this.errors.length) this.step = step;
    this.loading = false;
    this.changed();
  }

  async loadMoney() {
    const pools = [];
    let cursor = null, pages = 0;
    do {
      const told = await get(`/v1/money${cursor === null ? "" : `?cursor=${encodeURIComponent(cursor)}`}`);
      pools.push(...told.pools);
      cursor = told.next_cursor;
      pages += 1;
    } while (cursor !== null && pages < MOST_PAGES);
    Object.assign(this, { pools, cut: cursor !== null });
  }

  // Where pools share no stock, there is no split to ask for.
  async loadSplit() {
    this.shared = live.overview.stock_shared;
    this.split = this.shared ? await get("/v1/fleet") : null;
  }
}
