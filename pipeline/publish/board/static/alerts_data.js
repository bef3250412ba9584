// The alerts of the newest hours, asked for at most every two seconds however many parts of the page want them.

import { get } from "./live.js";

const ALERT_SECONDS = 24 * 3600;
const REUSE_MS = 2000;

let asked = null, askedAt = 0;

export function alertsSince(now) {
  if (!asked || Date.now() - askedAt > REUSE_MS) {
    askedAt = Date.now();
    asked = get(`/v1/alerts?since=${Math.floor(Math.max(0, now - ALERT_SECONDS))}`).then((found) => found.alerts);
    asked.catch(() => {
      asked = null;
    });
  }
  return asked;
}
