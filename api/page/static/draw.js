// The drawing room: the form and the pictures that were drawn.

import { installBaseModelMenu } from "./base_models.js";
import { confirmedButton } from "./confirm.js";
import { button, byId, element, setText, synchronize } from "./dom.js";
import { followEvents } from "./event_stream.js";
import { clearErrors, showProblem } from "./field_errors.js";
import { formatTime, titleOf } from "./format.js";
import { postJson, send } from "./http.js";
import { changed, isUnfinished, lists, updates } from "./lists.js";
import { download, showPicture } from "./pictures.js";
import { installPrompt } from "./prompt.js";
import { fillPrompts, installPromptSet, promptFields } from "./prompt_set.js";
import { installView } from "./views.js";

const MOST_SHOWN = 20;
const CONTROLS = { // setting of the API → id of its control
  negative_prompt: "negative-prompt", n: "n", seed: "seed", steps: "draw-steps", guidance_scale: "guidance",
  size: "size", scheduler: "scheduler",
};
const form = byId("draw-form");
let followed = null; // id of the job whose events are read

export function installDraw() {
  installView("draw");
  installBaseModelMenu("draw-base-model");
  installPromptSet();
  installPrompt(() => byId("draw-base-model").value);
  form.addEventListener("submit", draw);
  form.addEventListener("input", () => clearErrors(form));
  byId("prompt").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  byId("dice").addEventListener("click", () => (byId("seed").value = Math.floor(Math.random() * 1e9)));
  updates.addEventListener("change", render);
}

async function draw(event) {
  event.preventDefault();
  const body = { ...promptFields(), base_model: byId("draw-base-model").value || null };
  for (const [name, id] of Object.entries(CONTROLS)) {
    const control = byId(id);
    if (control.value) body[name] = control.type === "number" ? Number(control.value) : control.value;
  }
  try {
    await postJson("v1/generations", body);
    clearErrors(form);
    await changed();
  } catch (problem) {
    showProblem(form, problem);
  }
}

function render() {
  const shown = lists.generations.slice(0, MOST_SHOWN);
  byId("no-drawings").hidden = shown.length > 0;
  synchronize(byId("drawings"), shown, ({ id }) => id, create, fill);
  const unfinished = shown.findLast(isUnfinished);
  if (followed === null && unfinished !== undefined) follow(unfinished.id);
}

async function follow(id) {
  followed = id;
  const receive = (type, data) => {
    const progress = byId("drawings").querySelector(`[data-key="${id}"] progress`);
    if (type === "progress" && progress) Object.assign(progress, { max: data.total_steps, value: data.step });
  };
  try {
    await followEvents(`v1/generations/${id}/events`, receive, new AbortController().signal);
  } catch {
    // deleted, or the key is no longer valid: the next update shows which
  }
  followed = null;
  await changed();
}

function create() {
  return element("article", { class: "card drawing" });
}

/** Fill the card of a generation. Only the change of its status changes it. */
function fill(card, job) {
  if (card.dataset.status === job.status) return;
  card.dataset.status = job.status;
  const { settings } = job;
  const facts = [
    `seed ${settings.seed}`, `${settings.steps} steps`, `guidance ${settings.guidance_scale}`,
    settings.width && `${settings.width}×${settings.height}`, settings.scheduler, job.base_model, formatTime(job.created_at),
  ];
  const head = element("header", {}, element("h2", {}, titleOf(job)));
  if (settings.negative_prompt) head.append(element("p", { class: "hint" }, `without ${settings.negative_prompt}`));
  head.append(element("p", { class: "hint" }, facts.filter(Boolean).join(" · ")));
  const warnings = job.warnings.map(({ message }) => element("li", {}, message));
  card.replaceChildren(head, element("ul", { class: "warnings" }, ...warnings), content(job), actions(job));
}

function content(job) {
  if (isUnfinished(job)) return element("progress", { "aria-label": `Drawing ${titleOf(job)}` });
  if (job.status !== "succeeded") return element("p", { class: "error" }, job.error?.message ?? job.status);
  const groups = job.groups ?? [{ prompt: null, images: job.images }];
  const parts = groups.filter(({ images }) => images.length).map(({ prompt, images }) => element(
    "section", {}, prompt && element("h3", {}, prompt),
    element("div", { class: "pictures" }, ...images.map((image) => figureOf(job, image))),
  ));
  return element("div", {}, ...parts);
}

function figureOf(job, image) {
  const picture = element("img", { alt: `${image.prompt}, seed ${image.seed}` });
  const path = `v1/generations/${job.id}/images/${job.images.findIndex(({ url }) => url === image.url)}.png`;
  showPicture(picture, path);
  const name = `zoodip-${image.seed}.png`;
  const place = job.groups ? `${image.prompt}, seed ${image.seed}` : `the picture with seed ${image.seed}`;
  const save = button("download", "", () => download(path, name).catch(() => {}), {
    class: "secondary icon-only", "aria-label": `Download ${place}`,
  });
  return element("figure", {}, picture, element("figcaption", {}, element("span", {}, `seed ${image.seed}`), save));
}


function actions(job) {
  const again = button("copy", "Same seed again", () => fillForm(job));
  const cancel = async () => (await send(`v1/generations/${job.id}/cancel`, { method: "POST" }), changed());
  const remove = async () => (await send(`v1/generations/${job.id}`, { method: "DELETE" }), changed());
  const end = isUnfinished(job)
    ? confirmedButton("x", "Cancel", { name: "drawing", act: cancel })
    : confirmedButton("trash-2", "Delete", { name: "pictures", act: remove });
  const path = `v1/generations/${job.id}/contact-sheet.png`;
  const sheet = job.groups && job.status === "succeeded"
    ? button("download", "Contact sheet", () => download(path, "zoodip-contact-sheet.png").catch(() => {}))
    : null;
  return element("div", { class: "actions" }, again, sheet, end);
}

/** Fill the form with the settings of a job. */
function fillForm(job) {
  const { settings } = job;
  byId("draw-base-model").value = job.base_model;
  fillPrompts(job);
  const size = settings.width ? `${settings.width}x${settings.height}` : "";
  for (const [name, id] of Object.entries(CONTROLS)) byId(id).value = name === "size" ? size : (settings[name] ?? "");
  form.dispatchEvent(new Event("input")); // clears the errors
  byId("prompt").focus();
  scrollTo(0, 0);
}
