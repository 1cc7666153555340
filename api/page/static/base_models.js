// Fills the menus of base models.

import { byId, element } from "./dom.js";
import { lists, updates } from "./lists.js";

export function installBaseModelMenu(id) {
  updates.addEventListener("change", () => {
    const menu = byId(id);
    if (menu.options.length === lists.baseModels.length) return;
    menu.replaceChildren(
      ...lists.baseModels.map((model) => element("option", { value: model.id, selected: model.default }, model.id)),
    );
  });
}
