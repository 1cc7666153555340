// Pictures and files of the API: their requests need the key, so they are fetched and shown as blobs.

import { element } from "./dom.js";
import { send } from "./http.js";

const MOST_CACHED = 300;
const cache = new Map(); // path → promise of the blob's URL, oldest first

/** Show the picture at this path in an img element. */
export async function showPicture(image, path) {
  if (image.dataset.path === path) return;
  image.dataset.path = path;
  try {
    const url = await blobUrl(path);
    if (image.dataset.path === path) image.src = url;
  } catch {
    delete image.dataset.path; // deleted in the meantime, or shown again by the next update
  }
}

function blobUrl(path) {
  if (!cache.has(path)) {
    const url = send(path).then(async (response) => URL.createObjectURL(await response.blob()));
    cache.set(path, url);
    url.catch(() => cache.delete(path));
    if (cache.size > MOST_CACHED) forgetOldest();
  }
  return cache.get(path);
}

function forgetOldest() {
  const [path, url] = cache.entries().next().value;
  cache.delete(path);
  url.then(URL.revokeObjectURL, () => {});
}

/** Download the file at this path under a name. Throws a Problem. */
export async function download(path, name) {
  const url = URL.createObjectURL(await (await send(path)).blob());
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
