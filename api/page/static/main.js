// Starts the page.

import { installConcepts } from "./concepts.js";
import { byId, setText } from "./dom.js";
import { installDraw } from "./draw.js";
import { installJob } from "./job.js";
import { installKeyForm } from "./key_form.js";
import { installLearn } from "./learn.js";
import { update, updates, watchLists } from "./lists.js";
import { installQueue } from "./queue.js";
import { installView, route, startViews } from "./views.js";

const notice = byId("notice");
updates.addEventListener("change", () => (notice.hidden = true));
updates.addEventListener("failure", ({ detail }) => showFailure(detail));

function showFailure(problem) {
  notice.hidden = problem.status === 401; // the key form says it
  setText(notice, problem.message);
}

async function load() {
  try {
    await update();
  } catch (problem) {
    showFailure(problem);
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
