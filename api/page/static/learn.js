// The form that starts a personalization: checks it while it is filled in, shows the cost, sends it.

import { installBaseModelMenu } from "./base_models.js";
import { byId, element, setText } from "./dom.js";
import { clearErrors, fieldError, showProblem } from "./field_errors.js";
import { asToken, formatCount, formatDuration, formatMegabytes, plural } from "./format.js";
import { getJson } from "./http.js";
import { installInitializer } from "./initializer.js";
import { countPhotos, inspectPhotos } from "./inspection.js";
import { changed } from "./lists.js";
import { captions, crops, files, installPhotos, showFit, showWarnings } from "./photos.js";
import { show } from "./views.js";

const CHECK_MS = 500;
const form = byId("learn-form");
let timer;
let checks = 0; // number of the latest check; answers of earlier ones are dropped

export function installLearn() {
  installBaseModelMenu("base-model");
  installInitializer(() => byId("base-model").value);
  installPhotos(checkSoon, captionOf);
  form.addEventListener("input", () => {
    setText(byId("token-shown"), token() || "<my-dog>");
    showFit(byId("image-fit").value);
    checkSoon();
  });
  form.addEventListener("submit", start);
}

/** Fill the form with the settings of a job; its photos have to be added again, unless they are still here. */
export function fillFrom(job) {
  byId("token").value = job.token.slice(1, -1);
  byId("initializer").value = job.initializer;
  byId("kind").value = job.kind;
  byId("base-model").value = job.base_model;
  const { steps, stop, image_fit: fit, seed, masked_loss: masked, ...others } = job.settings;
  const values = { steps, stop, "image-fit": fit, "learn-seed": seed, "other-settings": JSON.stringify(others) };
  for (const [id, value] of Object.entries(values)) byId(id).value = value;
  byId("masked-loss").checked = masked === true;
  byId("replace").checked = job.status === "succeeded";
  byId("learn-more").open = true;
  form.dispatchEvent(new Event("input"));
  show("learn");
}

const token = () => asToken(byId("token").value);

/** Return the caption of a photo. Text without the new word is what else the photo shows, such as "in the snow". */
function captionOf(text) {
  const shown = token() || "<my-dog>";
  const hasWord = new RegExp(`<|(?<![\\w-])${shown.slice(1, -1).replace(/\W/g, "\\$&")}(?![\\w-])`, "i");
  if (hasWord.test(text)) return text;
  return byId("kind").value === "style" ? `${text || "a photo"} in ${shown} style` : `a photo of a ${shown} ${text}`.trim();
}

/** Return the form as the API reads it. Throws a field error if the page itself finds a fault. */
function body() {
  const settings = otherSettings();
  for (const [name, id] of [["steps", "steps"], ["stop", "stop"], ["image_fit", "image-fit"], ["seed", "learn-seed"]]) {
    const control = byId(id);
    if (control.value) settings[name] = control.type === "number" ? Number(control.value) : control.value;
  }
  if (byId("masked-loss").checked) settings.masked_loss = true;
  const request = {
    token: token(),
    initializer: byId("initializer").value.trim(),
    kind: byId("kind").value,
    base_model: byId("base-model").value || null,
    captions: captions(),
    crop: crops(),
    settings,
    replace: byId("replace").checked,
  };
  const data = new FormData();
  for (const file of files()) data.append("images", file);
  data.append("request", JSON.stringify(request));
  return data;
}

function otherSettings() {
  const text = byId("other-settings").value.trim();
  try {
    return text ? JSON.parse(text) : {};
  } catch {
    throw fieldError("settings", 'settings: got text that is not JSON; expected an object such as {"n": 8}');
  }
}

function checkSoon() {
  clearTimeout(timer);
  clearErrors(form);
  timer = setTimeout(check, CHECK_MS);
}

async function check() {
  const number = ++checks;
  let warnings = []; // those of the photos alone, if the form is incomplete or refused
  let answer = null;
  let problem = null;
  try {
    await countPhotos();
    const hasSquares = files().length > 0 && byId("image-fit").value === "crop";
    if (hasSquares) warnings = await inspectPhotos();
    if (number === checks && isComplete()) {
      answer = await getJson("v1/personalizations?validate_only=true", { method: "POST", form: body() });
    }
  } catch (error) {
    problem = error;
  }
  if (number !== checks) return;
  showWarnings(answer?.warnings ?? warnings);
  showCost(answer);
  if (problem !== null) showErrors(problem, { focus: false });
}

/** Show the errors. A token that is taken unfolds the settings, which can replace its concept. */
function showErrors(problem, options) {
  if (problem.code === "token_taken") byId("learn-more").open = true;
  showProblem(form, problem, options);
}

const isComplete = () => files().length > 0 && token() && byId("initializer").value.trim();

function showCost(answer) {
  if (answer === null) return byId("cost").replaceChildren();
  const seconds = answer.estimated_seconds;
  const memory = answer.estimated_memory_mb;
  const facts = [
    ["Time", seconds === null ? "known after the first job" : `about ${formatDuration(seconds)}`],
    ["Work", `${formatCount(answer.evaluations)} U-Net evaluations`],
    ["Memory", memory === null ? "known to the worker" : `${formatMegabytes(memory)} of weights`],
    ["Queue", answer.queue_position ? `${plural(answer.queue_position, "job")} ahead` : "starts at once"],
  ];
  byId("cost").replaceChildren(
    element("dl", {}, ...facts.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value)))),
  );
}

async function start(event) {
  event.preventDefault();
  clearTimeout(timer);
  checks += 1; // an answer of a check that is under way must not hide the answer of this request
  const submit = form.querySelector('[type="submit"]');
  submit.disabled = true;
  submit.setAttribute("aria-busy", "true");
  try {
    await countPhotos();
    const job = await getJson("v1/personalizations", { method: "POST", form: body() });
    clearErrors(form);
    show(`job/${job.id}`);
    await changed();
  } catch (problem) {
    showErrors(problem);
  } finally {
    submit.disabled = false;
    submit.removeAttribute("aria-busy");
  }
}
