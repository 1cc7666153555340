// Prompt sets: several lines are several prompts, and {token} becomes each of the chosen words.

import { byId, element, synchronize } from "./dom.js";
import { lists, updates } from "./lists.js";

const PLACEHOLDER = "{token}";
const chosen = new Set(); // tokens; one that no longer exists is not sent

export function installPromptSet() {
  byId("prompt").addEventListener("input", render);
  byId("draw-base-model").addEventListener("change", render);
  updates.addEventListener("change", render);
}

const prompts = () => byId("prompt").value.split("\n").map((line) => line.trim()).filter(Boolean);
const words = () =>
  lists.concepts.filter(({ base_model: baseModel }) => baseModel === byId("draw-base-model").value).map(({ token }) => token);

/** Return the fields of the request for what is typed and chosen. */
export function promptFields() {
  const lines = prompts();
  const fills = lines.some((line) => line.includes(PLACEHOLDER));
  if (lines.length < 2 && !fills) return { prompt: byId("prompt").value };
  return { prompts: lines, concepts: fills ? words().filter((token) => chosen.has(token)) : [] };
}

/** Show the prompts and the words of a job. */
export function fillPrompts(job) {
  const groups = job.groups ?? [{ template: job.prompt, concept: null }];
  byId("prompt").value = [...new Set(groups.map(({ template }) => template))].join("\n");
  chosen.clear();
  for (const { concept } of groups) if (concept) chosen.add(concept);
  render();
}

function render() {
  byId("set-words").hidden = !byId("prompt").value.includes(PLACEHOLDER);
  synchronize(byId("set-word-list"), words(), String, create, (label, token) => {
    label.querySelector("input").checked = chosen.has(token);
  });
}

function create(token) {
  const choose = (event) => (event.target.checked ? chosen.add(token) : chosen.delete(token));
  return element("label", { class: "inline" }, element("input", { type: "checkbox", onchange: choose }), ` ${token}`);
}
