// Small tools for the document: find, create and synchronize elements.

export const byId = (id) => document.getElementById(id);

/** Create an element. Attributes that start with "on" are listeners; `false` and `null` leave an attribute out. */
export function element(tag, attributes = {}, ...children) {
  const created = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) created.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null && value !== undefined) {
      created.setAttribute(name, value === true ? "" : value);
    }
  }
  created.append(...children.filter((child) => child !== null));
  return created;
}

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `page-files/vendor/icons.svg#${name}`);
  svg.append(use);
  return svg;
}

export function button(iconName, label, onclick, attributes = {}) {
  return element("button", { type: "button", class: "secondary", onclick, ...attributes }, icon(iconName), label);
}

/**
 * Make the children of a container those of the items. An element whose key stays is updated and keeps its state.
 * `create(item)` returns a new element, `update(element, item)` fills a new or an old one.
 */
export function synchronize(container, items, keyOf, create, update = () => {}) {
  const old = new Map([...container.children].map((child) => [child.dataset.key, child]));
  const wanted = items.map((item) => {
    const key = keyOf(item);
    const child = old.get(key) ?? create(item);
    child.dataset.key = key;
    update(child, item);
    old.delete(key);
    return child;
  });
  for (const child of old.values()) child.remove();
  wanted.forEach((child, index) => {
    if (container.children[index] !== child) container.insertBefore(child, container.children[index] ?? null);
  });
}

/** Replace the text of an element only if it differs, so that screen readers do not repeat it. */
export function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

/** Say something to screen readers. */
export function announce(text) {
  setText(byId("announcement"), text);
}
