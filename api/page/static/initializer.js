// Suggests words of the base model for the initializer, and shows how the typed text splits.

import { byId, element, setText } from "./dom.js";
import { getJson } from "./http.js";

const TYPING_MS = 200;
let timer;

/** `baseModel()` returns the name of the chosen base model. */
export function installInitializer(baseModel) {
  byId("initializer").addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => lookUp(baseModel()), TYPING_MS);
  });
}

async function lookUp(baseModel) {
  const text = byId("initializer").value.trim();
  if (!text) return setText(byId("initializer-hint"), "The search starts from this word.");
  const query = new URLSearchParams({ text, ...(baseModel && { base_model: baseModel }) });
  const match = await getJson(`v1/vocabulary?${query}`).catch(() => null);
  if (match === null || byId("initializer").value.trim() !== text) return;
  byId("words").replaceChildren(...match.suggestions.map((word) => element("option", { value: word })));
  setText(byId("initializer-hint"), hintOf(match));
}

function hintOf({ pieces, is_initializer: isUsable, suggestions }) {
  if (pieces === null) return "A worker checks this word when the search starts.";
  if (isUsable && pieces.length === 1) return "A single word of the base model.";
  const split = pieces.map((piece) => `“${piece}”`).join(" + ") || "nothing";
  if (isUsable) return `Splits into ${split}. The search starts from their mean, or one for each vector.`;
  const others = suggestions.length ? ` Try ${suggestions.slice(0, 3).join(", ")}.` : "";
  return `Splits into ${split}, which the base model cannot use.${others}`;
}
