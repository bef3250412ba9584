// The alerts of the newest day: active ones first, then by time.

import { alertItem } from "./alert_item.js";
import { alertsSince } from "./alerts_data.js";
import { el, set, setText } from "./dom.js";
import { plural } from "./format.js";
import { live } from "./live.js";
import { param, setParams } from "./router.js";

const MOST = 200;
const SHOWN = { active: "active", all: "last 24 h" };

export function alertsPage() {
  const heading = el("h1", { text: "Alerts" });
  const notice = el("p", { class: "notice", role: "status", "data-testid": "notice", hidden: true });
  const told = el("p", { class: "quiet", "aria-live": "polite", "data-testid": "alerts-told" });
  const search = el("input", { type: "search", "data-testid": "filter", placeholder: "search pool, kind or text",
    "aria-label": "search pool, kind or text", autocomplete: "off" });
  const buttons = Object.entries(SHOWN).map(([name, text]) => el("button", { type: "button", "data-show": name, text }));
  const list = el("ol", { class: "alerts", "data-testid": "alerts" });
  const none = el("p", { class: "none", hidden: true, text: "None to show." });
  let alerts = null, step;

  search.addEventListener("input", () => {
    setParams({ q: search.value.trim() });
    draw();
  });
  for (const button of buttons) {
    button.addEventListener("click", () => {
      setParams({ show: button.dataset.show === "active" ? "" : button.dataset.show });
      route();
      draw();
    });
  }

  function route() {
    if (search.value.trim() !== param("q")) search.value = param("q");
    for (const button of buttons) set(button, "aria-pressed", String(button.dataset.show === param("show", "active")));
  }

  async function show() {
    if (!live.status || step === live.status.as_of) return;
    step = live.status.as_of;
    try {
      alerts = await alertsSince(live.status.now);
      notice.hidden = true;
      draw();
    } catch (error) {
      step = undefined;
      notice.hidden = false;
      setText(notice, `The alerts could not be read: ${alerts ? "what is shown may be old" : "whether there are any is not known here"}. (${error.message})`);
    }
  }

  function draw() {
    if (!alerts) return;
    const words = param("q").toLowerCase().split(/\s+/).filter(Boolean);
    const matching = alerts.filter((a) => {
      const text = `${a.model}/${a.pool} ${live.kinds.get(a.kind)?.title ?? a.kind} ${a.message}`.toLowerCase();
      return words.every((word) => text.includes(word));
    });
    const active = matching.filter((a) => a.active).sort((a, b) => RANK[a.severity] - RANK[b.severity] || b.raised_at - a.raised_at);
    const found = param("show", "active") === "all" ? [...active, ...matching.filter((a) => !a.active)] : active;
    list.replaceChildren(...found.slice(0, MOST).map((a) => alertItem(a, live.kinds, live.status.now)));
    const hidden = found.length - MOST;
    setText(told, `${plural(active.length, "active alert")}, ${matching.length - active.length} ended in the last 24 hours${
      hidden > 0 ? `; ${hidden} more: search to see them` : ""}.`);
    none.hidden = found.length > 0;
    window.tokentide.drawn = { alerts: found };
  }

  const element = el("div", { class: "page" }, heading, notice, told,
    el("div", { class: "tools" }, search, el("div", { class: "segments", role: "group", "aria-label": "which alerts" }, ...buttons)), list, none);
  return { element, title: "Alerts", route, show };
}

const RANK = { critical: 0, warning: 1, info: 2 };
