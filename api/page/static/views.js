// The views of the page. The address names the current one, so that reload, back and links work.

import { byId } from "./dom.js";

const opened = new Map(); // view → called with the rest of the address each time the view opens
const closed = new Map();

export function installView(name, { open = () => {}, close = () => {} } = {}) {
  opened.set(name, open);
  closed.set(name, close);
}

export function show(address) {
  if (location.hash === `#${address}`) route();
  else location.hash = address;
}

/** Show the view of the address now and whenever it changes. */
export function startViews() {
  byId("skip").addEventListener("click", (event) => {
    event.preventDefault(); // the address keeps its view
    byId("main").focus();
  });
  addEventListener("hashchange", () => {
    route();
    document.querySelector("[data-view]:not([hidden]) h1").focus({ preventScroll: true });
    scrollTo(0, 0);
  });
  route();
}

/** Open the current view again, for example after a key was entered. */
export function route() {
  const [name, ...rest] = location.hash.slice(1).split("/");
  const view = opened.has(name) ? name : "learn";
  for (const section of document.querySelectorAll("[data-view]")) {
    if (!section.hidden && section.dataset.view !== view) closed.get(section.dataset.view)();
    section.hidden = section.dataset.view !== view;
  }
  for (const link of document.querySelectorAll("nav a")) {
    const isCurrent = link.hash === `#${view}` || (view === "job" && link.hash === "#queue");
    if (isCurrent) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${view[0].toUpperCase()}${view.slice(1)} · zoodip`;
  opened.get(view)(rest.join("/"));
}
