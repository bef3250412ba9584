// What every page shows: event time and speed, whether the pipeline is well, the progress of learning, a lost connection.

import { byId, set, setText } from "./dom.js";
import { span, stamp, times } from "./format.js";
import { live } from "./live.js";

// A usual pipeline closes a window within two minutes of its end; what is older by so much is told to be stale.
const STALE_LAG_SECONDS = 240;

export function showHeader() {
  const down = showConnection();
  const { status } = live;
  if (!status) return;
  const { progress, speed } = status;
  setText(byId("event-time"), stamp(status.now));
  const stale = !progress && status.ready && status.watermark_lag_seconds > STALE_LAG_SECONDS;
  const ready = byId("ready");
  const [text, tone] = down ? ["no connection", "bad"] : progress ? ["learning", "busy"] : status.starting ? ["starting", "busy"]
    : stale ? [`${span(status.watermark_lag_seconds)} behind`, "warn"] : status.ready ? ["ready", "good"] : ["not ready", "bad"];
  setText(ready, text);
  set(ready, "class", `pill ${tone}`);
  set(ready, "title", status.detail || null);
  const starting = progress && speed && speed.actual < 0.05; // nothing has been learned yet
  setText(byId("speed"), speed && !starting ? `${times(speed.actual)} real time` : "");
  set(byId("speed"), "class", speed && !progress && speed.actual < 0.8 * speed.target ? "slow" : null);
  set(byId("speed"), "title",
    speed ? `Simulated time, at most ${times(speed.target)} real time: it slows down when the pipeline needs longer` : null);
  byId("alert-count").hidden = !status.active_alerts;
  setText(byId("alert-count"), String(status.active_alerts));
  showProgress(progress);
  showTrouble(progress ? "" : trouble(status, stale), status.starting ? "busy" : stale ? "warn" : "bad");
}

// Why the pipeline is not ready, or how old the newest minute is, on every page: nobody should have to point for it.
function trouble(status, stale) {
  if (stale) return `The newest complete minute ended ${span(status.watermark_lag_seconds)} ago: what is shown is as old.`;
  if (status.ready || !status.detail) return "";
  return `${status.starting ? "Starting" : "Not ready"}: ${status.detail}`;
}

function showTrouble(text, tone) {
  const line = byId("trouble");
  line.hidden = !text;
  setText(line, text);
  set(line, "class", tone);
}

function showProgress(progress) {
  byId("progress").hidden = !progress;
  if (!progress) return;
  const share = Math.max(0, Math.min(1, progress.share));
  set(byId("progress"), "aria-valuenow", Math.floor(100 * share));
  byId("progress-fill").style.width = `${100 * share}%`;
  const left = progress.remaining_seconds === null ? "" : ` · about ${span(progress.remaining_seconds)} left`;
  const task = progress.task.charAt(0).toUpperCase() + progress.task.slice(1);
  setText(byId("progress-text"), `${task}: ${Math.floor(100 * share)} %${left}. Until then the past is shown, not the present.`);
}

function showConnection() {
  const banner = byId("banner");
  const down = !live.connected && live.failures > 0;
  document.body.classList.toggle("lost", down);
  banner.hidden = !down;
  if (!down) return false;
  const since = live.lastGood === null ? "no data yet" : `last data ${span((Date.now() - live.lastGood) / 1000)} ago`;
  setText(banner, `Connection lost: ${since}. Hold; do not act on what is shown.`);
  return true;
}
