// Numbers and times as text.

const count = new Intl.NumberFormat("en-US");
const short = new Intl.NumberFormat("en-US", { maximumFractionDigits: 1 });

export const formatCount = (value) => count.format(value);
/** Return the token that a typed name means: the angle brackets may be left out. */
export function asToken(text) {
  const name = text.trim();
  return !name || name.startsWith("<") ? name : `<${name}>`;
}

export const plural = (value, noun) => `${formatCount(value)} ${noun}${value === 1 ? "" : "s"}`;

/** Name of a generation. */
export const titleOf = (job) => (job.groups ? plural(job.groups.length, "prompt") : job.prompt);

export function formatDuration(seconds) {
  if (seconds < 1) return "under 1 s";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${short.format(seconds / 3600)} h`;
}

export function formatMegabytes(value) {
  return value < 1000 ? `${Math.round(value)} MB` : `${short.format(value / 1000)} GB`;
}

export function formatTime(timestamp) {
  return new Date(timestamp).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
}
