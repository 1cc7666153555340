// The chart of the validation loss, with a marker where the search ended early.

import { byId, setText } from "./dom.js";

const HEIGHT_PX = 220;
let chart = null;

/** Draw the losses. `points` maps steps to losses; `end` is the step of an early end, or null. */
export function drawCurve(points, totalSteps, end) {
  const steps = [...points.keys()].sort((a, b) => a - b);
  const losses = steps.map((step) => points.get(step));
  byId("loss-empty").hidden = steps.length > 0;
  byId("loss").hidden = steps.length === 0;
  setText(byId("loss-summary"), summaryOf(steps, losses, end));
  chart?.destroy();
  chart = null;
  if (!steps.length) return;
  const xs = end === null || steps.includes(end) ? steps : [...steps, end];
  const ys = xs.map((step) => points.get(step) ?? null);
  chart = new uPlot(options(totalSteps, end), [xs, ys], byId("loss"));
}

function summaryOf(steps, losses, end) {
  if (!steps.length) return "";
  const change = (losses.at(-1) / losses[0] - 1) * 100;
  const now = `${losses.at(-1).toFixed(4)} at step ${steps.at(-1)}`;
  const trend = steps.length > 1 ? `, ${Math.abs(change).toFixed(1)} % ${change <= 0 ? "below" : "above"} the start` : "";
  return `${now}${trend}${end === null ? "" : `; ended early at step ${end}`}`;
}

function options(totalSteps, end) {
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(name).trim();
  const axis = { stroke: color("--pico-muted-color"), grid: { stroke: color("--line"), width: 1 }, ticks: { show: false } };
  return {
    width: byId("loss").clientWidth || 300,
    height: HEIGHT_PX,
    legend: { show: false },
    cursor: { show: false },
    scales: { x: { time: false, range: [0, Math.max(totalSteps, 1)] } },
    axes: [axis, { ...axis, size: 64, values: (_, ticks) => ticks.map((tick) => tick.toFixed(4)) }],
    series: [{}, { stroke: color("--pico-primary"), width: 2, points: { show: true, size: 5 } }],
    hooks: { draw: end === null ? [] : [(drawn) => markEnd(drawn, end, color("--pico-del-color"))] },
  };
}

function markEnd(drawn, end, stroke) {
  const { ctx, bbox } = drawn;
  const x = drawn.valToPos(end, "x", true);
  ctx.save();
  ctx.strokeStyle = stroke;
  ctx.setLineDash([6, 4]);
  ctx.lineWidth = 2;
  ctx.beginPath();
  ctx.moveTo(x, bbox.top);
  ctx.lineTo(x, bbox.top + bbox.height);
  ctx.stroke();
  ctx.restore();
}
