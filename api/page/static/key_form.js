// Asks for the API key when a request needs one.

import { byId } from "./dom.js";
import { access } from "./http.js";
import { forgetKey, storeKey, storedKey } from "./key.js";

/** Show the form when a request is refused; call `retry` after a key was entered or forgotten. */
export function installKeyForm(retry) {
  const section = byId("key");
  const input = byId("key-input");

  access.addEventListener("unauthorized", ({ detail: problem }) => {
    if (!section.hidden) return; // several requests are refused at once
    section.hidden = false;
    byId("key-error").textContent = storedKey() ? problem.message : "";
    forgetKey();
    byId("forget-key").hidden = true;
    input.focus();
  });

  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    byId("key-error").textContent = "";
    storeKey(input.value.trim());
    section.hidden = true;
    input.value = "";
    byId("forget-key").hidden = false;
    retry();
  });

  byId("forget-key").hidden = !storedKey();
  byId("forget-key").addEventListener("click", () => {
    forgetKey();
    location.reload();
  });
}
