// Asks the service about the photos and their squares, also before the rest of the form is filled in.

import { getJson } from "./http.js";
import { crops, files, setCount, sizesOfPhotos, uncountedArchives } from "./photos.js";

let latest = { photos: [], crop: "", warnings: [] }; // the answer is kept until a photo or a square changes

/** Return the warnings about the photos. */
export async function inspectPhotos() {
  const photos = files();
  const crop = JSON.stringify(crops());
  if (crop === latest.crop && isSame(photos, latest.photos)) return latest.warnings;
  const takeSizes = sizesOfPhotos();
  const images = await inspect(photos, crop);
  takeSizes(images);
  latest = { photos, crop, warnings: images.flatMap(({ warnings }) => warnings) };
  return latest.warnings;
}

/** Count the photos in each new ZIP file: squares and warnings refer to photos by their number. */
export async function countPhotos() {
  for (const archive of uncountedArchives()) setCount(archive, (await inspect([archive.file], null)).length);
}

async function inspect(photos, crop) {
  const data = new FormData();
  for (const file of photos) data.append("images", file);
  data.append("request", `{"crop": ${crop}}`);
  return (await getJson("v1/inspections", { method: "POST", form: data })).images;
}

const isSame = (one, other) => one.length === other.length && one.every((file, index) => file === other[index]);
