// Reports of backtests and evaluations that lie in the folder of the settings.

import { el, keepFocus, setText, table } from "./dom.js";
import { count, plural, stamp } from "./format.js";
import { get } from "./live.js";

const REUSE_MS = 30_000;

export function reportsPage() {
  const told = el("p", { class: "quiet", "aria-live": "polite", "data-testid": "reports-told",
    text: "reading the folder" });
  const content = el("div", { class: "page" });
  let askedAt = -Infinity, closed = false;

  async function show() {
    if (Date.now() - askedAt < REUSE_MS) return;
    askedAt = Date.now();
    let found = { folder_set: true, reports: [], truncated: false }, text;
    try {
      found = await get("/board/reports");
      if (!found.folder_set) askedAt = Infinity;
      text = !found.folder_set ? "No folder of reports is set: publish.reports_folder names one." : found.reports.length ? `${plural(found.reports.length, "report")}, the newest first${
        found.truncated ? "; older ones are not listed" : ""}. A report opens in a tab of its own.`
        : "The folder of publish.reports_folder has no HTML reports.";
    } catch (error) {
      text = `The reports could not be read. (${error.message})`;
    }
    if (closed) return;
    setText(told, text);
    keepFocus(content, () => content.replaceChildren(...(found.reports.length ? [list(found.reports)] : [])));
    window.tokentide.drawn = { reports: found.reports };
  }

  const element = el("div", { class: "page" }, el("h1", { text: "Reports" }), told, content);
  return { element, title: "Reports", show, close: () => {
    closed = true;
  } };
}

function list(reports) {
  return el("section", { class: "panel" }, table("reports", ["report", "changed, UTC", "size"], reports.map((report) => [
    report.served ? el("a", { href: `/board/reports/${encodeURIComponent(report.name)}`, target: "_blank",
      rel: "noopener", "data-testid": "report", text: report.name })
      : el("span", { text: `${report.name} (too large to be shown)` }),
    stamp(report.modified_at), `${count(Math.ceil(report.bytes / 1024))} KiB`,
  ]), { testid: "reports", cards: true }));
}
