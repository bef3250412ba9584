// Elements made and changed. Text goes in through textContent only: whatever events name is text, never markup.

const SVG = "http://www.w3.org/2000/svg";

// `properties`: class, text, and attributes by name (null, undefined and false leave one out).
export function el(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

export function svg(tag, properties = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

function fill(element, { text, ...attributes }, children) {
  for (const [name, value] of Object.entries(attributes)) set(element, name, value);
  if (text !== undefined && text !== null) element.textContent = text;
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// Writes an attribute only where it changes, so that nothing is laid out again without need.
export function set(element, name, value) {
  if (value === null || value === undefined || value === false) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
  } else {
    const text = value === true ? "" : String(value);
    if (element.getAttribute(name) !== text) element.setAttribute(name, text);
  }
}

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export const byId = (id) => document.getElementById(id);

// Puts children in place only where they or their order differ.
export function setChildren(parent, children) {
  const same = parent.children.length === children.length && children.every((c, i) => parent.children[i] === c);
  if (!same) parent.replaceChildren(...children);
}

export const chip = (text, level = "") => el("span", { class: `chip ${level}`, text });

// Changes what is in a parent; a link or region in it that has the focus, has it afterwards.
export function keepFocus(parent, change) {
  const name = (element) => element.getAttribute("href") ?? element.getAttribute("aria-label");
  const focused = parent.contains(document.activeElement) ? name(document.activeElement) : null;
  change();
  if (focused === null) return;
  const same = [...parent.querySelectorAll("a, [tabindex]")].find((element) => name(element) === focused);
  same?.focus({ preventScroll: true });
}

// A table with a head; cells are texts or elements, and columns from `right` on are numbers. With `cards` each row
// becomes a card on a phone; the roles are told because its look is then no longer that of a table.
export function table(caption, head, rows, { right = 1, testid = null, cards = false } = {}) {
  const role = (name) => (cards ? name : null);
  const cell = (tag, content, i) => {
    const made = el(tag, { class: i >= right ? "number" : null, scope: tag === "th" ? "col" : null,
      role: role(tag === "th" ? "columnheader" : "cell"), "data-label": cards && tag === "td" ? head[i] : null });
    made.append(content ?? "–");
    return made;
  };
  const row = (tag, contents) => el("tr", { role: role("row") }, ...contents.map((content, i) => cell(tag, content, i)));
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el("table", { "data-testid": testid, class: cards ? "cards" : null, role: role("table") },
      el("caption", { class: "visually-hidden", text: caption }),
      el("thead", { role: role("rowgroup") }, row("th", head)),
      el("tbody", { role: role("rowgroup") }, ...rows.map((contents) => row("td", contents)))));
}
