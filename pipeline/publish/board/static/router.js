// The address after "#" holds all of what is looked at, so that a link shows the same: #/pool/MODEL/POOL?signal=kv_tokens

export function parse(hash = location.hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  const parts = path.split("/").filter(Boolean).map(decoded);
  return { page: parts[0] || "overview", parts: parts.slice(1), params: new URLSearchParams(query) };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export function href(page, parts = [], params = {}) {
  const path = [page, ...parts].map(encodeURIComponent).join("/");
  const query = new URLSearchParams(Object.entries(params).filter(([, value]) => value)).toString();
  return `#/${path}${query ? `?${query}` : ""}`;
}

export const poolHref = (pool, params = {}) => href("pool", [pool.model, pool.pool], params);

// Changes parameters of the present address without a new entry in the history of the browser.
export function setParams(changes) {
  const { page, parts, params } = parse();
  for (const [name, value] of Object.entries(changes)) {
    if (value) params.set(name, value);
    else params.delete(name);
  }
  history.replaceState(null, "", href(page, parts, Object.fromEntries(params)));
}

export const param = (name, fallback = "") => parse().params.get(name) ?? fallback;
