// Requests to the HTTP API. A response that is no success throws a Problem.

import { authorization } from "./key.js";

/** Dispatches "unauthorized" with the problem as detail when a request needs a key, or another one. */
export const access = new EventTarget();

export class Problem extends Error {
  /** `errors` has `{field, message}` for each invalid field. */
  constructor(status, body) {
    super(body.detail ?? `The service answered ${status}.`);
    this.status = status;
    this.code = body.code;
    this.errors = body.errors ?? [];
  }
}

export async function send(path, { method = "GET", json, form, headers = {}, signal } = {}) {
  const body = json === undefined ? form : JSON.stringify(json);
  const type = json === undefined ? {} : { "Content-Type": "application/json" };
  let response;
  try {
    response = await fetch(path, { method, body, signal, headers: { ...authorization(), ...type, ...headers } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { code: "unreachable", detail: "The service cannot be reached." });
  }
  if (response.ok) return response;
  const problem = new Problem(response.status, await response.json().catch(() => ({})));
  if (problem.status === 401) access.dispatchEvent(new CustomEvent("unauthorized", { detail: problem }));
  throw problem;
}

export const getJson = async (path, options) => (await send(path, options)).json();
export const postJson = async (path, json) => getJson(path, { method: "POST", json });
