// The square of a photo that is used: drawn over the thumbnail, moved by pointer and keyboard, with a slider for its size.

import { announce, button, element } from "./dom.js";
import { Square } from "./square.js";

const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const SIZES = { "+": 1, "=": 1, "-": -1, _: -1 };
const MOVE = 0.02; // of the short side, for a key
const RESIZE = 0.05;

export class CropControl {
  #square;
  #changed;
  #name;
  #grip = null; // pointer's place in the square, and the place of the square before
  #shade = shape("path", { class: "outside", "fill-rule": "evenodd" });
  #edges = [shape("rect", { class: "edge under" }), shape("rect", { class: "edge" })];
  #drawing = shape("svg", { class: "square", "aria-hidden": "true" });
  #x = slider("Square, left to right", "mover visually-hidden", 0);
  #y = slider("Square, top to bottom", "mover visually-hidden", 0);
  #size = slider("Size of the square", "", 1);
  #reset = button("rotate-ccw", "", () => this.#center(), { "aria-label": "Center the square", class: "secondary icon-only" });

  /** `changed()` is called after each change of the square, but not while a pointer moves it. */
  constructor({ name, width, height, minSide, changed }) {
    this.#square = new Square(width, height, minSide);
    this.#name = name;
    this.#changed = changed;
    this.#drawing.append(this.#shade, ...this.#edges);
    this.overlay = [this.#drawing, this.#x, this.#y];
    this.row = element("div", { class: "square-size" }, "Size", this.#size, this.#reset);
    this.#listen();
    this.#draw();
  }

  crop() {
    return this.#square.crop();
  }

  /** Use the size of the upright photo that the service reads. Return whether it has the shape of the shown one. */
  scaleTo(width, height) {
    const ratio = (width * this.#square.height) / (height * this.#square.width);
    if (Math.abs(ratio - 1) > 0.02) return false;
    this.#square.scaleTo(width, height);
    this.#draw();
    return true;
  }

  #listen() {
    this.#x.setAttribute("aria-describedby", "squares-hint");
    this.#y.tabIndex = -1; // Tab stops once; arrow keys go to the slider of their axis
    for (const mover of [this.#x, this.#y]) {
      mover.addEventListener("focus", () => {
        for (const each of [this.#x, this.#y]) each.tabIndex = each === mover ? 0 : -1;
      });
      mover.addEventListener("keydown", (event) => this.#press(event));
      mover.addEventListener("input", () => this.#slide(mover));
    }
    this.#size.addEventListener("input", () => {
      this.#square.resize(this.#size.value / 100);
      this.#draw();
    });
    this.#drawing.addEventListener("pointerdown", (event) => this.#grab(event));
    this.#drawing.addEventListener("pointermove", (event) => this.#drag(event));
    this.#drawing.addEventListener("pointercancel", () => this.#release(false));
    this.#drawing.addEventListener("pointerup", () => this.#release(true));
  }

  #slide(mover) {
    const { x, y, room } = this.#square;
    if (mover === this.#x) this.#square.moveTo((room.x * mover.value) / 100, y);
    else this.#square.moveTo(x, (room.y * mover.value) / 100);
    this.#draw();
  }

  #press(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const move = MOVES[event.key];
    if (move === undefined && SIZES[event.key] === undefined) return;
    event.preventDefault();
    const { x, y, short, share } = this.#square;
    const step = Math.max(1, MOVE * short);
    if (move === undefined) this.#square.resize(share + RESIZE * SIZES[event.key]);
    else this.#square.moveTo(x + move[0] * step, y + move[1] * step);
    this.#draw();
    if (move === undefined) announce(`Size ${this.#size.ariaValueText}`);
    else (move[0] ? this.#x : this.#y).focus(); // a screen reader says the value that changed
    this.#changed();
  }

  #grab(event) {
    if (!event.isPrimary || event.button !== 0) return;
    const at = this.#placeOf(event);
    const before = { x: this.#square.x, y: this.#square.y };
    if (!this.#square.contains(at)) this.#square.moveMiddleTo(at.x, at.y);
    this.#grip = { x: at.x - this.#square.x, y: at.y - this.#square.y, before };
    this.#drawing.setPointerCapture(event.pointerId);
    this.#draw();
  }

  #drag(event) {
    if (this.#grip === null || !event.isPrimary) return;
    const at = this.#placeOf(event);
    this.#square.moveTo(at.x - this.#grip.x, at.y - this.#grip.y);
    this.#draw();
  }

  /** End a drag. The browser cancels one that turns out to scroll the page. */
  #release(isDone) {
    if (this.#grip === null) return;
    const { before } = this.#grip;
    this.#grip = null;
    if (!isDone) this.#square.moveTo(before.x, before.y);
    this.#draw();
    if (!isDone) return;
    this.#x.focus({ preventScroll: true }); // so that arrow keys go on from here
    this.#changed();
  }

  #center() {
    this.#square.center();
    this.#draw();
    this.#x.focus(); // the button is disabled now
    announce(`${this.#name}: the square is in the center`);
    this.#changed();
  }

  /** Return the place of a pointer in pixels of the photo. */
  #placeOf(event) {
    return new DOMPoint(event.clientX, event.clientY).matrixTransform(this.#drawing.getScreenCTM().inverse());
  }

  #draw() {
    const { x, y, side, width, height, room, share, minShare } = this.#square;
    set(this.#drawing, { viewBox: `0 0 ${width} ${height}` });
    set(this.#shade, { d: `M0 0H${width}V${height}H0ZM${x} ${y}h${side}v${side}h${-side}Z` });
    for (const edge of this.#edges) set(edge, { x, y, width: side, height: side });
    // A touch scrolls the page along an axis on which the square cannot move.
    const axes = `${room.x ? "x" : ""}${room.y ? "y" : ""}`;
    set(this.#drawing, { class: `square moves-${axes || "not"}${this.#grip ? " held" : ""}` });
    fill(this.#x, room.x ? (100 * x) / room.x : 50, `${x} of ${room.x} px`);
    fill(this.#y, room.y ? (100 * y) / room.y : 50, `${y} of ${room.y} px`);
    this.#size.min = Math.ceil(100 * minShare);
    fill(this.#size, 100 * share, `${Math.round(100 * share)} %, ${side} px`);
    this.#reset.disabled = this.crop() === null;
  }
}

function shape(tag, attributes) {
  const created = document.createElementNS("http://www.w3.org/2000/svg", tag);
  set(created, attributes);
  return created;
}

function set(target, attributes) {
  for (const [name, value] of Object.entries(attributes)) target.setAttribute(name, value);
}

/** Create a slider for a percentage. Enter does not send the form. */
function slider(label, className, min) {
  const created = element("input", { type: "range", min, max: 100, class: className, "aria-label": label });
  created.addEventListener("keydown", (event) => event.key === "Enter" && event.preventDefault());
  return created;
}

function fill(target, percent, text) {
  target.value = Math.round(percent);
  target.ariaValueText = text;
}
