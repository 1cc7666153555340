// The photos of a new concept: drop, paste or choose; thumbnails as the model sees them; a caption for each.

import { button, byId, element } from "./dom.js";

const photos = []; // {file, url, row, caption, warnings}
let notify = () => {};
let defaultCaption = () => "";

export const files = () => photos.map((photo) => photo.file);

/** Return one sentence for each photo, or null if nobody wrote any. A photo without one gets the default. */
export function captions() {
  const written = photos.map((photo) => photo.caption.value.trim());
  return written.some(Boolean) ? written.map((text) => text || defaultCaption()) : null;
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
  general.replaceChildren();
  for (const photo of photos) photo.warnings.replaceChildren();
  for (const { message } of warnings) {
    const number = /^image (\d+)\b/.exec(message)?.[1];
    const text = number === undefined ? message : message.replace(/^image \d+:? /, "");
    const place = photos[number - 1]?.warnings ?? general;
    place.append(element("li", {}, text));
  }
}

/** Show the photos cropped to their center, or squashed. */
export function showFit(fit) {
  byId("photos").classList.toggle("squashed", fit === "squash");
}

function add(list) {
  for (const file of list) {
    const url = URL.createObjectURL(file);
    const image = element("img", { src: url, alt: "" });
    image.addEventListener("error", () => image.replaceWith(element("span", { class: "no-preview" }, "no preview")));
    const photo = {
      file,
      url,
      caption: element("input", { placeholder: "Caption", autocomplete: "off", "aria-label": `Caption of ${file.name}` }),
      warnings: element("ul", { class: "warnings" }),
    };
    photo.caption.addEventListener("change", notify);
    const removal = button("x", "", () => remove(photo), { "aria-label": `Remove ${file.name}`, class: "secondary icon-only remove" });
    photo.row = element("li", {}, element("div", { class: "thumbnail" }, image, removal), photo.caption, photo.warnings);
    photos.push(photo);
    byId("photos").append(photo.row);
  }
  notify();
}

function remove(photo) {
  URL.revokeObjectURL(photo.url);
  photos.splice(photos.indexOf(photo), 1);
  photo.row.remove();
  byId("photo-files").focus();
  notify();
}
