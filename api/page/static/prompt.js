// The prompt: learned words as chips that insert themselves, filtered by the word that is being typed.

import { byId, element, synchronize } from "./dom.js";
import { lists, updates } from "./lists.js";

const TYPED = /<?[a-z0-9_-]*$/; // the word in front of the caret, which may be the beginning of a token

export function installPrompt(baseModel) {
  const prompt = byId("prompt");
  const render = () => renderChips(prompt, baseModel());
  updates.addEventListener("change", render);
  byId("draw-base-model").addEventListener("change", render);
  prompt.addEventListener("input", render);
  prompt.addEventListener("keydown", (event) => {
    const first = byId("chips").querySelector("button");
    if (event.key !== "Tab" || event.shiftKey || !first || !typed(prompt).startsWith("<")) return;
    event.preventDefault();
    first.click();
  });
}

/** Make the prompt contain the token. */
export function mentionToken(token) {
  const prompt = byId("prompt");
  if (!prompt.value) prompt.value = `a photo of a ${token}`;
  else if (!prompt.value.includes(token)) insertToken(prompt, token);
}

/** Put the token where the caret is, instead of a beginning of it. */
function insertToken(prompt, token) {
  const before = prompt.value.slice(0, prompt.selectionStart);
  const after = prompt.value.slice(prompt.selectionStart);
  const start = typed(prompt).startsWith("<") ? before.replace(TYPED, "") : before.replace(/(\S)$/, "$1 ");
  prompt.value = `${start}${token}${after}`;
  const caret = start.length + token.length;
  prompt.setSelectionRange(caret, caret);
  prompt.dispatchEvent(new Event("input", { bubbles: true }));
}

const typed = (prompt) => TYPED.exec(prompt.value.slice(0, prompt.selectionStart))[0];

function renderChips(prompt, baseModel) {
  const start = typed(prompt);
  const beginning = start.startsWith("<") ? start : "";
  const tokens = lists.concepts.filter((concept) => concept.base_model === baseModel).map(({ token }) => token);
  const shown = tokens.filter((token) => token.startsWith(beginning)).slice(0, 24);
  synchronize(byId("chips"), shown, String, (token) =>
    element("li", {}, element("button", { type: "button", class: "chip", onclick: () => insert(token) }, token)));

  function insert(token) {
    insertToken(prompt, token);
    prompt.focus();
  }
}
