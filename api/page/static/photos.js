// The photos of a new concept: drop, paste or choose; thumbnails with the square that is used; a caption for each.

import { CropControl } from "./crop_control.js";
import { button, byId, element, synchronize } from "./dom.js";

const photos = []; // {file, url, row, thumbnail, square, caption, warnings}; square is null without a preview
let notify = () => {};
let defaultCaption = () => "";

export const files = () => photos.map((photo) => photo.file);

/** Return one sentence for each photo, or null if nobody wrote any. A photo without one gets the default. */
export function captions() {
  const written = photos.map((photo) => photo.caption.value.trim());
  return written.some(Boolean) ? written.map((text) => text || defaultCaption()) : null;
}

/** Return the chosen square of each photo, null for its center; null if no square was chosen. */
export function crops() {
  const squares = photos.map((photo) => photo.square?.crop() ?? null);
  return isSquashed() || !squares.some(Boolean) ? null : squares;
}

/** Return a function that takes the size of each of these photos, as the service reads it. */
export function sizesOfPhotos() {
  const listed = [...photos];
  return (sizes) => {
    for (const [index, { width, height }] of sizes.entries()) {
      if (listed[index].square?.scaleTo(width, height) === false) hidePreview(listed[index]);
    }
  };
}

/** Call `changed` after each change; `captionOf()` returns the sentence of a photo without a caption. */
export function installPhotos(changed, captionOf) {
  notify = changed;
  defaultCaption = captionOf;
  const input = byId("photo-files");
  const zone = byId("drop");
  input.addEventListener("change", () => {
    add(input.files);
    input.value = "";
  });
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault(); // Chromium would send the form
    input.click();
  });
  const view = document.querySelector('[data-view="learn"]');
  view.addEventListener("dragover", (event) => {
    event.preventDefault();
    zone.classList.add("over");
  });
  view.addEventListener("dragleave", () => zone.classList.remove("over"));
  view.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    add(event.dataTransfer.files);
  });
  document.addEventListener("paste", (event) => !view.hidden && add(event.clipboardData.files));
}

/** Show each warning at the photo that it names ("image 2: …"), and the others below the photos. */
export function showWarnings(warnings) {
  const general = byId("photo-warnings");
  const places = new Map([general, ...photos.map((photo) => photo.warnings)].map((place) => [place, []]));
  for (const { message } of warnings) {
    const number = /^image (\d+)\b/.exec(message)?.[1];
    const text = number === undefined ? message : message.replace(/^image \d+:? /, "");
    places.get(photos[number - 1]?.warnings ?? general).push(text);
  }
  for (const [place, texts] of places) synchronize(place, texts, String, (text) => element("li", {}, text));
}

/** Show the photos with their squares, or squashed. */
export function showFit(fit) {
  byId("photos").classList.toggle("squashed", fit === "squash");
}

const isSquashed = () => byId("photos").classList.contains("squashed");

function add(list) {
  for (const file of list) {
    const url = URL.createObjectURL(file);
    const image = element("img", { src: url, alt: "" });
    const photo = {
      file,
      url,
      square: null,
      caption: element("input", { placeholder: "Caption", autocomplete: "off", "aria-label": `Caption of ${file.name}` }),
      warnings: element("ul", { class: "warnings", "aria-label": `Warnings about ${file.name}`, "aria-live": "polite" }),
    };
    image.addEventListener("load", () => addSquare(photo, image));
    image.addEventListener("error", () => hidePreview(photo));
    photo.caption.addEventListener("change", notify);
    const removal = button("x", "", () => remove(photo), { "aria-label": `Remove ${file.name}`, class: "secondary icon-only remove" });
    photo.thumbnail = element("div", { class: "thumbnail" }, image, removal);
    const group = element("fieldset", { "aria-label": `Photo ${file.name}` }, photo.thumbnail, photo.caption, photo.warnings);
    photo.row = element("li", {}, group);
    photos.push(photo);
    byId("photos").append(photo.row);
  }
  notify();
}

function addSquare(photo, image) {
  const { naturalWidth: width, naturalHeight: height } = image;
  if (!width) return hidePreview(photo);
  const minSide = Number(byId("photos").dataset.minSide);
  photo.square = new CropControl({ name: photo.file.name, width, height, minSide, changed: notify });
  image.after(...photo.square.overlay);
  photo.thumbnail.after(photo.square.row);
}

/** The browser cannot show the photo as the service reads it, so nobody could choose a square. */
function hidePreview(photo) {
  photo.square?.row.remove();
  photo.square = null;
  photo.thumbnail.replaceChildren(element("span", { class: "no-preview" }, "no preview"), photo.thumbnail.lastChild);
  photo.thumbnail.after(element("p", { class: "hint no-square" }, "This browser cannot show the photo. Its center is used."));
}

function remove(photo) {
  URL.revokeObjectURL(photo.url);
  photos.splice(photos.indexOf(photo), 1);
  photo.row.remove();
  byId("photo-files").focus();
  notify();
}
