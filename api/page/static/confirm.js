// A button for an action that cannot be undone: the first press asks, the second one acts. No dialog.

import { button, element } from "./dom.js";

/**
 * Return a group with the button.
 *
 * `act` runs after the second press; an error of it is shown in the group.
 */
export function confirmedButton(iconName, label, { name, act }) {
  const first = button(iconName, label, ask, { "aria-label": `${label} ${name}` });
  const error = element("span", { class: "error", role: "alert" });
  const group = element("span", { class: "confirm" }, first, error);

  function ask() {
    const yes = element("button", { type: "button", class: "danger", onclick: confirm }, `${label} ${name}`);
    const no = element("button", { type: "button", class: "secondary", onclick: cancel }, "Keep");
    const choice = element("span", { class: "choice", role: "group", "aria-label": `${label} ${name}?` }, yes, no);
    choice.addEventListener("keydown", (event) => event.key === "Escape" && cancel());
    group.replaceChildren(choice, error);
    no.focus();
  }

  function cancel() {
    group.replaceChildren(first, error);
    first.focus();
  }

  async function confirm() {
    try {
      await act();
    } catch (problem) {
      cancel();
      error.textContent = problem.message;
    }
  }
  return group;
}
