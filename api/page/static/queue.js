// The queue: all jobs of this key, newest first.

import { button, byId, element, setText, synchronize } from "./dom.js";
import { formatTime, plural, titleOf } from "./format.js";
import { getJson } from "./http.js";
import { allJobs, isUnfinished, updates } from "./lists.js";
import { installView, show } from "./views.js";

export function installQueue() {
  installView("queue", { open: showUsage });
  updates.addEventListener("change", render);
  updates.addEventListener("change", showUsage);
}

/** Show what this key's owner has used today. A failure shows nothing new. */
async function showUsage() {
  if (byId("usage").closest("[data-view]").hidden) return;
  const report = await getJson("v1/usage").catch(() => null);
  if (report === null) return;
  const today = report.data.filter(({ day }) => day === report.last_day);
  const sum = (name) => today.reduce((total, one) => total + one[name], 0);
  const parts = [
    plural(sum("evaluations"), "U-Net evaluation"), `${sum("seconds").toFixed(0)} s`, plural(sum("images"), "image"),
    `${(report.stored_bytes / 1e6).toFixed(1)} MB stored`,
  ];
  byId("usage").hidden = false;
  setText(byId("usage"), `Used today (UTC): ${parts.join(", ")}.`);
}

function render() {
  const jobs = allJobs();
  const unfinished = jobs.filter(isUnfinished).length;
  byId("unfinished").hidden = unfinished === 0;
  setText(byId("unfinished"), String(unfinished));
  byId("unfinished").title = plural(unfinished, "unfinished job");
  byId("no-jobs").hidden = jobs.length > 0;
  synchronize(byId("jobs"), jobs, ({ id }) => id, create, fill);
}

function create(job) {
  const isDrawing = job.object === "generation";
  const name = isDrawing ? titleOf(job) : job.token;
  const open = button(isDrawing ? "brush" : "graduation-cap", name, () => show(isDrawing ? "draw" : `job/${job.id}`), {
    class: "link", "aria-label": `Open ${name}`,
  });
  return element(
    "li", { class: "card job" }, open, element("span", { class: "status" }), element("span", { class: "hint progress-text" }),
    element("progress", { "aria-label": `Progress of ${name}` }), element("span", { class: "hint" }, formatTime(job.created_at)),
  );
}

function fill(row, job) {
  const status = row.querySelector(".status");
  status.className = `status ${job.status}`;
  setText(status, job.status);
  const ahead = job.queue_position ? `${plural(job.queue_position, "job")} ahead` : "";
  setText(row.querySelector(".progress-text"), ahead || `${job.step} of ${plural(job.total_steps, "step")}`);
  Object.assign(row.querySelector("progress"), { max: job.total_steps, value: job.step, hidden: !isUnfinished(job) });
}
