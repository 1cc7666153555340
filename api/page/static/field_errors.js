// Shows the errors of a Problem at the fields that they name.

import { element } from "./dom.js";

/** Remove all errors of a form. */
export function clearErrors(form) {
  for (const error of form.querySelectorAll("[data-field] > .error")) error.remove();
  for (const control of form.querySelectorAll("[aria-invalid]")) {
    control.removeAttribute("aria-invalid");
    control.removeAttribute("aria-errormessage");
  }
  const general = form.querySelector("[data-error-of-form]");
  general.hidden = true;
  general.textContent = "";
}

/** Show each error at its field, or above the button if the form has no such field; focus the first one. */
export function showProblem(form, problem, { focus = true } = {}) {
  clearErrors(form);
  const errors = problem.errors?.length ? problem.errors : [{ field: null, message: problem.message }];
  const controls = errors.map(({ field, message }) => showError(form, field ?? fieldOfCode(problem), message));
  if (focus) controls.find(Boolean)?.focus();
}

/** Return an error of this page that is shown like one of the service. */
export const fieldError = (field, message) => Object.assign(new Error(message), { errors: [{ field, message }] });

const fieldOfCode = (problem) => (problem.code === "token_taken" ? "token" : null);

function showError(form, field, message) {
  const place = field === null ? null : placeOf(form, field);
  if (place === null) {
    const general = form.querySelector("[data-error-of-form]");
    general.append(element("span", {}, message));
    general.hidden = false;
    return null;
  }
  for (const fold of ancestors(place, "DETAILS")) fold.open = true;
  const control = place.querySelector("input, select, textarea");
  const id = `${form.id}-error-${field.replaceAll(/\W/g, "-")}`;
  place.append(element("p", { id, class: "error", role: "alert" }, message));
  control.setAttribute("aria-invalid", "true");
  control.setAttribute("aria-errormessage", id);
  return control;
}

/** Return the element of the field, or of the field that contains it: `captions.1` is in `captions`. */
function placeOf(form, field) {
  for (let name = field; name; name = name.replace(/[.[]?[^.[]*$/, "")) {
    const quoted = CSS.escape(name);
    const place = form.querySelector(`[data-field="${quoted}"], [data-also~="${quoted}"]`);
    if (place !== null) return place;
  }
  return null;
}

function* ancestors(node, tag) {
  for (let parent = node.parentElement; parent; parent = parent.parentElement) if (parent.tagName === tag) yield parent;
}
