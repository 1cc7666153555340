// One personalization while it learns and afterwards: progress, loss, previews and what can be done with it.

import { confirmedButton } from "./confirm.js";
import { announce, button, byId, element, setText, synchronize } from "./dom.js";
import { followEvents } from "./event_stream.js";
import { formatCount, formatDuration, formatTime, plural } from "./format.js";
import { getJson, send } from "./http.js";
import { fillFrom } from "./learn.js";
import { changed, isUnfinished, lists, updates } from "./lists.js";
import { drawCurve } from "./loss_curve.js";
import { showPicture } from "./pictures.js";
import { mentionToken } from "./prompt.js";
import { installView, show } from "./views.js";

const STATUS_MS = 50; // a replay brings earlier statuses first
let openId = null; // id in the address
let job = null; // null until it is read
let losses = new Map(); // step → validation loss
let previewSteps = new Set();
let following = null; // AbortController of the stream
let frame = null; // a redraw is planned: a replay brings hundreds of events at once
let reading = null;

export function installJob() {
  installView("job", { open, close });
  updates.addEventListener("change", () => {
    const listed = lists.personalizations.find(({ id }) => id === job?.id);
    if (listed === undefined || listed.status === job.status) return;
    take(listed); // changed in another tab, which also happens to a job whose stream has ended
    if (following === null && isUnfinished(job)) follow();
  });
  addEventListener("resize", () => job && renderCurve());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => job && renderCurve());
}

async function open(id) {
  if (openId !== id) {
    close();
    openId = id;
    byId("job-title").textContent = "";
    byId("previews").replaceChildren();
  }
  try {
    await read(id);
  } catch (problem) {
    if (openId !== id) return;
    setText(byId("job-title"), "Personalization");
    return showError(problem);
  }
  if (openId === id && following === null) follow();
}

function close() {
  following?.abort();
  following = null;
  openId = null;
  job = null;
  losses = new Map();
  previewSteps = new Set();
}

/** Read the job. A new status changes the lists here and in other tabs. */
async function read(id) {
  if (take(await getJson(`v1/personalizations/${id}`))) await changed();
}

/** Show the job as it is now; announce its status and return true if that has changed. */
function take(found) {
  if (found.id !== openId) return false; // another job is open in the meantime
  const before = job?.status;
  job = found;
  render();
  const hasChanged = before !== undefined && before !== job.status;
  if (hasChanged) announce(`${job.token}: ${job.status}`);
  return hasChanged;
}

function showError(problem) {
  const error = byId("job-error");
  error.hidden = false;
  setText(error, problem.message);
}

async function follow() {
  const { id } = job;
  const controller = new AbortController();
  following = controller;
  try {
    await followEvents(`v1/personalizations/${id}/events`, receive, controller.signal);
    if (!controller.signal.aborted) await read(id);
  } catch (problem) {
    if (!controller.signal.aborted) showError(problem);
  }
  if (following === controller) following = null;
}

function receive(type, data) {
  if (type === "progress") {
    if (isUnfinished(job)) Object.assign(job, { step: data.step, it_per_s: data.it_per_s, eta_s: data.eta_s });
    if (data.fixed_loss !== null) losses.set(data.measured_at ?? data.step, data.fixed_loss);
  } else if (type === "preview") {
    previewSteps.add(data.step);
  } else if (type === "status") {
    clearTimeout(reading);
    reading = setTimeout(() => job && read(job.id).catch(() => {}), STATUS_MS);
  }
  frame ??= requestAnimationFrame(() => {
    frame = null;
    if (job !== null) renderLive();
  });
}

function render() {
  setText(byId("job-title"), job.token);
  document.title = `${job.token} · zoodip`;
  byId("job-status").className = `status ${job.status}`;
  setText(byId("job-status"), job.status);
  setText(byId("job-facts"), `from “${job.initializer}” on ${job.base_model}, ${formatTime(job.created_at)}`);
  byId("job-error").hidden = !job.error;
  setText(byId("job-error"), job.error?.message ?? "");
  byId("job-warnings").replaceChildren(...job.warnings.map(({ message }) => element("li", {}, message)));
  renderActions();
  renderLive();
}

function renderLive() {
  renderProgress();
  renderCurve();
  renderPreviews();
}

function renderProgress() {
  const progress = byId("job-progress");
  progress.max = job.total_steps;
  progress.value = job.status === "succeeded" ? job.total_steps : job.step;
  setText(byId("job-time"), timeText());
}

function timeText() {
  const steps = `${formatCount(job.step)} of ${plural(job.total_steps, "step")}`;
  if (job.status === "queued") return job.queue_position ? `${plural(job.queue_position, "job")} ahead` : "next in the queue";
  if (job.status === "succeeded") return job.result.stopped_early ? `${steps}; the loss had stopped falling` : steps;
  if (job.status !== "running" || job.eta_s === null) return steps;
  return `${steps}, ${formatDuration(job.eta_s)} left`;
}

function renderActions() {
  const { id, status } = job;
  const act = (word) => async () => {
    take(await getJson(`v1/personalizations/${id}/${word}`, { method: "POST" }));
    if (following === null && job && isUnfinished(job)) follow();
    await changed();
  };
  const safely = (action) => () => action().catch(showError);
  const actions = [];
  const add = (key, made) => actions.push({ key, made });
  if (status === "succeeded") add("use", () => button("brush", "Draw with it", () => use(), { class: "main-action" }));
  if (status === "running" || status === "queued") add("pause", () => button("pause", "Pause", safely(act("pause"))));
  if (status === "paused" || (status === "failed" && job.error?.retryable)) {
    add("resume", () => button("play", "Resume", safely(act("resume"))));
  }
  if (isUnfinished(job)) add("cancel", () => confirmedButton("x", "Cancel", { name: job.token, act: act("cancel") }));
  add("again", () => button("rotate-ccw", "Use these settings again", () => fillFrom(job)));
  if (!isUnfinished(job)) add("delete", () => confirmedButton("trash-2", "Delete", { name: "job", act: remove }));
  synchronize(byId("job-actions"), actions, ({ key }) => key, ({ made }) => made());
}

function use() {
  mentionToken(job.token);
  show("draw");
}

async function remove() {
  await send(`v1/personalizations/${job.id}`, { method: "DELETE" });
  show("queue");
  await changed();
}

function renderCurve() {
  drawCurve(losses, job.total_steps, job.result?.stopped_early ? job.result.steps : null);
}

function renderPreviews() {
  const strip = byId("previews");
  const steps = [...previewSteps].sort((a, b) => b - a);
  synchronize(strip, steps, String, (step) =>
    element("li", {}, element("img", { alt: `Preview after step ${step}` }), element("span", {}, `step ${formatCount(step)}`)),
  (row, step) => showPicture(row.querySelector("img"), `v1/personalizations/${job.id}/previews/${step}.png`));
}
