// The name of a concept in the gallery, and an inline form that changes it. No dialog.

import { announce, button, byId, element } from "./dom.js";
import { showProblem } from "./field_errors.js";
import { asToken } from "./format.js";
import { send } from "./http.js";
import { changed } from "./lists.js";

/** Return the heading of a concept's card with a button that replaces both by a form. */
export function renamableTitle(concept) {
  const rename = button("pencil", "", edit, { class: "secondary icon-only", "aria-label": `Rename ${concept.token}`, "data-rename": concept.id });
  const title = element("div", { class: "card-title" }, element("h2", {}, concept.token), rename);
  const place = element("div", {}, title);

  function edit() {
    const form = nameForm(concept, close);
    place.replaceChildren(form);
    form.querySelector("input").select();
  }

  function close() {
    place.replaceChildren(title);
    rename.focus();
  }
  return place;
}

function nameForm(concept, close) {
  const input = element("input", { value: concept.token.slice(1, -1), maxlength: 64, autocomplete: "off", spellcheck: "false" });
  const save = element("button", { type: "submit" }, "Save");
  const keep = element("button", { type: "button", class: "secondary", onclick: close }, "Keep");
  const form = element(
    "form", { id: `rename-${concept.id}`, class: "rename", novalidate: true, onsubmit: submit },
    element("div", { "data-field": "token" }, element("label", {}, `New name of ${concept.token}`, input)),
    element("p", { class: "error", role: "alert", "data-error-of-form": true, hidden: true }),
    element("div", { class: "actions" }, save, keep),
  );
  form.addEventListener("keydown", (event) => event.key === "Escape" && close());

  async function submit(event) {
    event.preventDefault();
    const token = asToken(input.value);
    if (token === concept.token) return close();
    save.disabled = true;
    try {
      await send(`v1/concepts/${concept.id}`, { method: "PATCH", json: { token } });
    } catch (problem) {
      return showProblem(form, problem);
    } finally {
      save.disabled = false;
    }
    await changed();
    announce(`${concept.token} is now ${token}.`);
    (document.querySelector(`[data-rename="${concept.id}"]`) ?? byId("concept-search")).focus();
  }
  return form;
}
