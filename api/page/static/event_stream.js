// Server-sent events through fetch, which can send the API key. Reconnects after the last event that was received.
// A hidden tab keeps no stream, because a browser opens only six connections to a host in all tabs.

import { Problem, send } from "./http.js";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10_000;
const ENDED = new Set(["succeeded", "failed", "cancelled"]);

/**
 * Follow the events of a job until it ends; call `receive(type, data)` for each. Ends early if the signal aborts.
 * Throws a Problem that a retry cannot change, such as 404.
 */
export async function followEvents(path, receive, signal) {
  let lastId = null;
  let waitMs = FIRST_WAIT_MS;
  let hasEnded = false;
  while (!signal.aborted) {
    await untilVisible(document.hidden);
    const visible = whileVisible();
    try {
      const headers = lastId === null ? {} : { "Last-Event-ID": lastId };
      const response = await send(path, { signal: AbortSignal.any([signal, visible]), headers });
      if (response.status === 204) return;
      for await (const event of parse(response.body)) {
        lastId = event.id ?? lastId;
        waitMs = FIRST_WAIT_MS;
        receive(event.type, event.data);
        if (event.type === "status") hasEnded = ENDED.has(event.data.status);
      }
      if (hasEnded) return; // only now: a failed job that was resumed has an end in the middle of its events
    } catch (error) {
      if (signal.aborted) return;
      if (visible.aborted) continue;
      const isPermanent = error instanceof Problem && error.status >= 400 && error.status < 500 && error.status !== 429;
      if (isPermanent) throw error;
    }
    await pause(waitMs, signal);
    waitMs = Math.min(2 * waitMs, LONGEST_WAIT_MS);
  }
}

async function* parse(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const blocks = (text + value).split("\n\n");
      text = blocks.pop();
      for (const fields of blocks.map(fieldsOf)) {
        if (fields.data) yield { id: fields.id, type: fields.event, data: JSON.parse(fields.data) };
      }
    }
  } finally {
    await reader.cancel();
  }
}

function fieldsOf(block) {
  return Object.fromEntries(
    block.split("\n").map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1).trim()]),
  );
}

const onceVisibilityChanges = (listener) => document.addEventListener("visibilitychange", listener, { once: true });

async function untilVisible(isHidden) {
  if (isHidden) await new Promise(onceVisibilityChanges);
}

function whileVisible() {
  const controller = new AbortController();
  onceVisibilityChanges(() => controller.abort());
  return controller.signal;
}

function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}
