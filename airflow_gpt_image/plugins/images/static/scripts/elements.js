// Make and change elements: the only way by which a document's texts and addresses get into the page.

const ADDRESSES = new Set(["src", "href"]);
const SVG = "http://www.w3.org/2000/svg";

/** Return whether a document has a value: null and the empty text are none. */
export const has = (value) => value !== null && value !== undefined && value !== "";

/** Return an address that may be loaded or followed: https, or this server's own; null for all others. */
export function safeAddress(value) {
  if (typeof value !== "string" || !value) return null;
  try {
    const url = new URL(value, location.href);
    const own = url.origin === location.origin && /^https?:$/.test(url.protocol);
    return own || url.protocol === "https:" ? url.href : null;
  } catch {
    return null;
  }
}

/** Make an element: `tag.class`, attributes, children; a null attribute or child is left out. */
export function h(name, attributes, ...children) {
  const [tag, ...classes] = name.split(".");
  const drawn = tag in { svg: 1, path: 1, rect: 1, title: 1 };
  const element = drawn ? document.createElementNS(SVG, tag) : document.createElement(tag);
  if (classes.length) element.setAttribute("class", classes.join(" "));
  for (const [key, given] of Object.entries(attributes ?? {})) {
    const value = ADDRESSES.has(key) ? safeAddress(given) : given;
    if (value === null || value === undefined || key.startsWith("on")) continue;
    if (typeof value !== "boolean" || key.startsWith("aria-")) element.setAttribute(key, String(value));
    else if (value) element.setAttribute(key, "");
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false || child === "") continue;
    element.append(child instanceof Node ? child : String(child));
  }
  return element;
}

const alike = (one, other) =>
  one.nodeName === other.nodeName &&
  (one.nodeType !== 1 ||
    (one.classList[0] === other.classList[0] && one.dataset?.key === other.dataset?.key));

/** Change a tree into another one, keeping elements that are in both: focus, scrolling and images stay. */
export function morph(from, to) {
  for (const { name } of [...from.attributes]) if (!to.hasAttribute(name)) from.removeAttribute(name);
  for (const { name, value } of to.attributes) {
    if (from.getAttribute(name) !== value) from.setAttribute(name, value);
  }
  const keyed = new Map();
  for (const child of from.children) if (child.dataset?.key) keyed.set(child.dataset.key, child);
  let at = from.firstChild;
  for (const child of [...to.childNodes]) {
    let old = keyed.get(child.dataset?.key);
    if (!child.dataset?.key) for (old = at; old && !alike(old, child);) old = old.nextSibling;
    if (!old) {
      from.insertBefore(child, at);
      continue;
    }
    if (child.dataset?.key && old !== at) from.insertBefore(old, at);
    else {
      while (at !== old) {
        const next = at.nextSibling;
        at.remove();
        at = next;
      }
      at = old.nextSibling;
    }
    if (old.nodeType === 1) morph(old, child);
    else if (old.data !== child.data) old.data = child.data;
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}
