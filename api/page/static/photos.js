// The photos of a new concept: drop, paste or choose; thumbnails with the square that is used; a caption for each.
// A ZIP file is one row that stands for several photos.

import { CropControl } from "./crop_control.js";
import { button, byId, element, synchronize } from "./dom.js";
import { fieldError } from "./field_errors.js";
import { plural } from "./format.js";

const ARCHIVE = /\.zip$/i;
// {file, url, row, thumbnail, square, caption, warnings, isArchive, count}. `square` is null without a preview. `count` is
// the number of photos in a ZIP file, or null before the service has read it.
const photos = [];
let notify = () => {};
let captionOf = () => "";

export const files = () => photos.map((photo) => photo.file);

/** Return the ZIP files whose photos are not counted yet. */
export const uncountedArchives = () => photos.filter(({ isArchive, count }) => isArchive && count === null);

export function setCount(archive, count) {
  archive.count = count;
  archive.thumbnail.firstChild.textContent = `ZIP file, ${plural(count, "photo")}`;
}

/** Return a caption for each photo, or null if nobody wrote any. */
export function captions() {
  const written = photos.map((photo) => photo.caption.value.trim());
  if (written.some(Boolean) && photos.some(({ isArchive }) => isArchive)) {
    throw fieldError("captions", "captions: got some and a ZIP file; expected .txt files in the ZIP file, or no ZIP file");
  }
  return written.some(Boolean) ? written.map(captionOf) : null;
}

/** Return the chosen square of each photo, null for its center; null if no square was chosen. */
export function crops() {
  const squares = perImage().map((photo) => photo.square?.crop() ?? null);
  return isSquashed() || !squares.some(Boolean) ? null : squares;
}

/** Return a function that takes the size of each of these photos, as the service reads it. */
export function sizesOfPhotos() {
  const listed = perImage();
  return (sizes) => {
    for (const [index, { width, height }] of sizes.entries()) {
      if (listed[index].square?.scaleTo(width, height) === false) hidePreview(listed[index]);
    }
  };
}

/** Return the photo of each image that the service counts. */
const perImage = () => photos.flatMap((photo) => Array(photo.count ?? 1).fill(photo));

/** Call `changed` after each change; `toCaption(text)` returns the caption of a photo below which `text` is written. */
export function installPhotos(changed, toCaption) {
  notify = changed;
  captionOf = toCaption;
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
  document.addEventListener("dragover", (event) => {
    if (view.hidden || !event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    zone.classList.add("over");
  });
  document.addEventListener("dragleave", () => zone.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    zone.classList.remove("over");
    if (!event.dataTransfer.files.length) return;
    event.preventDefault(); // the browser would open the file and leave the page
    if (!view.hidden) add(event.dataTransfer.files);
  });
  document.addEventListener("paste", (event) => !view.hidden && add(event.clipboardData.files));
}

/** Show each warning at the photo that it names ("image 2: …"), and the others below the photos. */
export function showWarnings(warnings) {
  const general = byId("photo-warnings");
  const listed = perImage();
  const places = new Map([general, ...photos.map((photo) => photo.warnings)].map((place) => [place, []]));
  for (const { message } of warnings) {
    const index = /^image (\d+)\b/.exec(message)?.[1] - 1;
    const photo = listed[index];
    const text = photo === undefined ? message : message.replace(/^image \d+:? /, "");
    places.get(photo?.warnings ?? general).push(photo?.isArchive ? `photo ${index - listed.indexOf(photo) + 1}: ${text}` : text);
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
    const photo = create(file);
    photo.caption.addEventListener("change", notify);
    const removal = button("x", "", () => remove(photo), { "aria-label": `Remove ${file.name}`, class: "secondary icon-only remove" });
    photo.thumbnail = element("div", { class: "thumbnail" }, removal);
    photo.thumbnail.prepend(photo.isArchive ? element("span", { class: "no-preview" }, "ZIP file") : imageOf(photo));
    const label = photo.isArchive ? `ZIP file ${file.name}` : `Photo ${file.name}`;
    const below = photo.isArchive ? archiveHints() : [photo.caption];
    photo.row = element("li", {}, element("fieldset", { "aria-label": label }, photo.thumbnail, ...below, photo.warnings));
    photos.push(photo);
    byId("photos").append(photo.row);
  }
  notify();
}

function create(file) {
  return {
    file,
    url: URL.createObjectURL(file),
    square: null,
    caption: element("input", { class: "caption", placeholder: "e.g. in the snow", autocomplete: "off", "aria-label": `Caption of ${file.name}`, "aria-describedby": "captions-hint" }),
    warnings: element("ul", { class: "warnings", "aria-label": `Warnings about ${file.name}`, "aria-live": "polite" }),
    isArchive: ARCHIVE.test(file.name),
    count: null,
  };
}

const archiveHints = () => [
  element("p", { class: "hint no-square" }, "The center of each photo is used."),
  element("p", { class: "hint" }, "A .txt file with the name of a photo is its caption."),
];

function imageOf(photo) {
  const image = element("img", { src: photo.url, alt: "" });
  image.addEventListener("load", () => addSquare(photo, image));
  image.addEventListener("error", () => hidePreview(photo));
  return image;
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
