// Starts the board: the header, the page that the address names, the keyboard.

import { alertsPage } from "./alerts.js";
import { byId } from "./dom.js";
import { fleetPage } from "./fleet.js";
import { showHeader } from "./header.js";
import { live, onChange, start } from "./live.js";
import { overviewPage } from "./overview.js";
import { pipelinePage } from "./pipeline.js";
import { poolPage } from "./pool.js";
import { reportsPage } from "./reports.js";
import { parse } from "./router.js";

const PAGES = { overview: overviewPage, pool: poolPage, alerts: alertsPage, pipeline: pipelinePage, fleet: fleetPage,
  reports: reportsPage };

let page = null, shownPath = null;

// For people and tests: what was fetched and drawn last.
window.tokentide = { live, page: null, drawn: {}, renders: 0 };

function route() {
  const { page: name, parts } = parse();
  const path = JSON.stringify([name, parts]);
  if (path !== shownPath) {
    page?.close?.();
    shownPath = path;
    page = (PAGES[name] || overviewPage)(parts);
    byId("page").replaceChildren(page.element);
    byId("page").dataset.page = name;
    document.title = page.title ? `${page.title} · Tokentide` : "Tokentide";
    window.scrollTo(0, 0);
    for (const link of document.querySelectorAll("nav a")) {
      const here = link.dataset.page === (PAGES[name] ? name : "overview");
      if (here) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    window.tokentide.page = name;
  }
  page.route?.();
  show();
}

let asked = false;

// At most once a frame, and not at all while nobody looks.
function show() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    showHeader();
    page?.show?.();
    window.tokentide.renders += 1;
  });
}

const HERE = { 1: "#/overview", 2: "#/alerts", 3: "#/pipeline", 4: "#/fleet", 5: "#/reports" };

function key(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
  const typing = event.target.matches("input, select, textarea");
  if (event.key === "Escape" && typing && !event.target.value) return event.target.blur(); // else the browser clears it
  if (typing) return undefined;
  if (page?.key?.(event)) return event.preventDefault();
  if (event.key === "?") return byId("help").showModal();
  if (event.key === "Escape") location.hash = "#/overview";
  else if (HERE[event.key]) location.hash = HERE[event.key];
  else if (event.key === "/") {
    const search = document.querySelector('input[type="search"]');
    if (search) {
      event.preventDefault();
      search.focus();
    }
  }
  return undefined;
}

byId("keys").addEventListener("click", () => byId("help").showModal());
// The address names the page: as a link, "#page" would leave it for the overview.
document.querySelector("a.skip").addEventListener("click", (event) => {
  event.preventDefault();
  byId("page").focus();
});
addEventListener("hashchange", route);
addEventListener("keydown", key);
document.addEventListener("themechange", () => page?.theme?.());
onChange(show);
route();
start();
