// The jobs, concepts and base models of this key. Tabs of one browser notify each other; others are found by polling.

import { getJson } from "./http.js";

const POLL_MS = 10_000;
const RECENT = 50;
const tabs = new BroadcastChannel("zoodip");

/** Current lists, newest first. `update()` replaces them. */
export const lists = { personalizations: [], generations: [], concepts: [], baseModels: [] };

/** Dispatches "change" after each update, and "failure" with the problem as detail. */
export const updates = new EventTarget();

export const isUnfinished = (job) => ["queued", "running", "paused"].includes(job.status);
export const allJobs = () =>
  [...lists.personalizations, ...lists.generations].sort((a, b) => b.created_at.localeCompare(a.created_at));

let asked = 0;
let shown = 0; // number of the update whose answer is shown; a slow earlier answer must not replace it

/** Read the lists again. Throws a Problem. */
export async function update() {
  const number = ++asked;
  const [personalizations, generations, concepts] = await Promise.all([
    getJson(`v1/personalizations?limit=${RECENT}`),
    getJson(`v1/generations?limit=${RECENT}`),
    allConcepts(),
  ]);
  if (!lists.baseModels.length) lists.baseModels = (await getJson("v1/base-models")).data;
  if (number < shown) return;
  shown = number;
  Object.assign(lists, { personalizations: personalizations.data, generations: generations.data, concepts });
  updates.dispatchEvent(new Event("change"));
}

/** Read the lists again, here and in the other tabs, after this tab has changed something. */
export async function changed() {
  tabs.postMessage("changed");
  await quietly();
}

/** Keep the lists up to date for as long as the page lives. */
export function watchLists() {
  tabs.addEventListener("message", quietly);
  document.addEventListener("visibilitychange", () => document.hidden || quietly());
  setInterval(() => document.hidden || quietly(), POLL_MS);
}

async function quietly() {
  try {
    await update();
  } catch (problem) {
    updates.dispatchEvent(new CustomEvent("failure", { detail: problem })); // the next poll tries again
  }
}

async function allConcepts() {
  const found = [];
  for (let page = { has_more: true }; page.has_more; ) {
    const after = found.length ? `&after=${found.at(-1).id}` : "";
    page = await getJson(`v1/concepts?limit=100${after}`);
    found.push(...page.data);
  }
  return found;
}
