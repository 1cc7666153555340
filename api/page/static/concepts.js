// The gallery of concepts: search, rename, download for each program, draw, delete.

import { confirmedButton } from "./confirm.js";
import { button, byId, element, synchronize } from "./dom.js";
import { formatTime } from "./format.js";
import { send } from "./http.js";
import { changed, lists, updates } from "./lists.js";
import { download, showPicture } from "./pictures.js";
import { mentionToken } from "./prompt.js";
import { renamableTitle } from "./rename.js";
import { installView, show } from "./views.js";

const FORMATS = { diffusers: "diffusers", a1111: "A1111", comfyui: "ComfyUI" };

export function installConcepts() {
  installView("concepts");
  byId("concept-search").addEventListener("input", render);
  updates.addEventListener("change", render);
}

function render() {
  const text = byId("concept-search").value.trim().toLowerCase();
  const shown = lists.concepts.filter(({ token }) => token.includes(text));
  byId("no-concepts").hidden = lists.concepts.length > 0;
  byId("no-match").hidden = shown.length > 0 || lists.concepts.length === 0;
  synchronize(byId("concepts"), shown, ({ id, token }) => `${id} ${token}`, create, fill);
}

function create(concept) {
  const use = button("brush", "Draw", () => (mentionToken(concept.token), show("draw")), { "aria-label": `Draw ${concept.token}` });
  const remove = async () => (await send(`v1/concepts/${concept.id}`, { method: "DELETE" }), changed());
  return element(
    "li", { class: "card concept" },
    element("div", { class: "picture" }),
    renamableTitle(concept),
    element("p", { class: "hint" }, `${concept.kind} on ${concept.base_model} · ${formatTime(concept.created_at)}`),
    element("div", { class: "actions" }, use, confirmedButton("trash-2", "Delete", { name: concept.token, act: remove })),
    downloads(concept),
  );
}

function downloads(concept) {
  const error = element("p", { class: "error", role: "alert" });
  const name = `${concept.token.slice(1, -1)}.safetensors`;
  const links = Object.entries(FORMATS).map(([format, program]) => {
    const save = () =>
      download(`v1/concepts/${concept.id}/embedding?format=${format}`, name).catch(({ message }) => (error.textContent = message));
    return button("download", program, save, { "aria-label": `Download ${concept.token} for ${program}` });
  });
  return element("details", {}, element("summary", {}, "Download"), element("div", { class: "actions" }, ...links), error);
}

/** Show the last preview of the job that learned the concept, if that job is among the recent ones. */
function fill(card, concept) {
  const job = lists.personalizations.find(({ id }) => id === concept.from_personalization);
  const place = card.querySelector(".picture");
  if (!job?.result || place.firstChild) return;
  const image = element("img", { alt: `Picture of ${concept.token}` });
  place.append(image);
  showPicture(image, `v1/personalizations/${job.id}/previews/${job.result.steps}.png`);
}
