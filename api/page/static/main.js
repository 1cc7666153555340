// Starts the page.

import { installConcepts } from "./concepts.js";
import { byId } from "./dom.js";
import { installDraw } from "./draw.js";
import { installJob } from "./job.js";
import { installKeyForm } from "./key_form.js";
import { installLearn } from "./learn.js";
import { update, updates, watchLists } from "./lists.js";
import { installQueue } from "./queue.js";
import { installView, route, startViews } from "./views.js";

const notice = byId("notice");
updates.addEventListener("change", () => (notice.hidden = true));

async function load() {
  try {
    await update();
  } catch (problem) {
    notice.hidden = problem.status === 401; // the key form says it
    notice.textContent = problem.message;
  }
}

installView("learn");
installLearn();
installJob();
installDraw();
installConcepts();
installQueue();
installKeyForm(async () => {
  await load();
  route();
});
startViews();
watchLists();
await load();
