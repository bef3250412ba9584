// What the server says, as it says it: the status by server-sent events, the overview after every step.
// Where the stream fails the status is asked for instead; where that fails too, the connection is lost and said to be.

const TIMEOUT_MS = 8000;
const SILENT_MS = 3000; // without a status from the stream, after which it is asked for
const REFRESH_MS = 10_000; // the overview is asked for so often even without a new step: advice expires

export const live = {
  status: null, overview: null, rows: new Map(), span: "3h", kinds: new Map(), connected: false, failures: 0, polls: 0,
  lastGood: null, error: null, money: new Map(),
};
const MONEY_MS = 30_000, NO_PRICE_MS = 300_000;
const listeners = new Set();
let heardAt = 0, loadedAt = 0, loadedStep = null, loading = false, again = false, moneyDue = 0;

export async function get(path) {
  const response = await fetch(path, { signal: AbortSignal.timeout(TIMEOUT_MS), cache: "no-store" });
  if (!response.ok) throw Object.assign(new Error(await refusal(path, response)), { status: response.status });
  return response.json();
}

// What was asked, without its details, and why it was refused where the server says so.
async function refusal(path, response) {
  const { detail, title } = await response.json().catch(() => ({}));
  return `${path.split("?")[0]}: ${detail || title || `HTTP ${response.status}`}`;
}

export function onChange(listener) {
  listeners.add(listener);
}

export function start() {
  const source = new EventSource("/board/stream");
  source.addEventListener("status", (event) => {
    heardAt = Date.now();
    void take(JSON.parse(event.data));
  });
  setInterval(watch, 1000);
  void watch();
}

export function setSpan(span) {
  if (live.span === span) return;
  live.span = span;
  loadedAt = 0;
  void load();
}

async function watch() {
  if (Date.now() - heardAt < SILENT_MS) return;
  try {
    await take(await get("/v1/status"));
  } catch (error) {
    lost(error);
  }
}

async function take(status) {
  if (live.status?.progress && !status.progress) moneyDue = 0; // prices are known once the past is learned
  live.status = status;
  live.polls += 1;
  for (const row of live.rows.values()) expire(row, status.now);
  if (status.advised_at !== loadedStep || Date.now() - loadedAt > REFRESH_MS) await load();
  else tell();
}

// Nothing new may ever come: what has run out goes by the clock.
function expire(row, now) {
  if (row.desired === null || row.expires_at > now) return;
  Object.assign(row, { state: "expired", desired: null, lower: null, upper: null, direction: null, message: "",
    headroom: null, run_out: null });
}

// One request at a time; what changes meanwhile is asked for after it.
async function load() {
  if (loading) {
    again = true;
    return;
  }
  loading = true;
  try {
    if (!live.kinds.size) {
      live.kinds = new Map((await get("/static/alert-kinds.json")).kinds.map((kind) => [kind.name, kind]));
    }
    const overview = await get(`/board/overview?span=${live.span}`);
    live.overview = overview;
    live.rows = new Map(overview.pools.map((row) => [`${row.model}|${row.pool}`, row]));
    if (Date.now() >= moneyDue) await loadMoney();
    loadedStep = overview.advised_at;
    loadedAt = Date.now();
    tell();
  } catch (error) {
    lost(error);
  } finally {
    loading = false;
    if (again) {
      again = false;
      void load();
    }
  }
}

// What pools cost; a server that knows no prices is asked again now and then.
async function loadMoney() {
  try {
    const { pools } = await get("/v1/money");
    const priced = pools.filter((pool) => pool.price);
    live.money = new Map(priced.map((pool) => [`${pool.model}|${pool.pool}`, pool]));
    moneyDue = Date.now() + (priced.length ? MONEY_MS : NO_PRICE_MS);
  } catch {
    // The overview is shown without prices; they are asked for again with the next one.
  }
}

function tell() {
  live.connected = true;
  live.error = null;
  live.lastGood = Date.now();
  for (const listener of listeners) listener();
}

export function lost(error) {
  live.connected = false;
  live.failures += 1;
  live.error = String(error);
  for (const listener of listeners) listener();
}
