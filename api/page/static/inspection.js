// Asks the service about the photos and their squares, also before the rest of the form is filled in.

import { getJson } from "./http.js";
import { crops, files, sizesOfPhotos } from "./photos.js";

let latest = { photos: [], crop: "", warnings: [] }; // the answer is kept until a photo or a square changes

/** Return the warnings about the photos. */
export async function inspectPhotos() {
  const photos = files();
  const crop = JSON.stringify(crops());
  if (crop === latest.crop && isSame(photos, latest.photos)) return latest.warnings;
  const takeSizes = sizesOfPhotos();
  const data = new FormData();
  for (const file of photos) data.append("images", file);
  data.append("request", `{"crop": ${crop}}`);
  const { images } = await getJson("v1/inspections", { method: "POST", form: data });
  takeSizes(images);
  latest = { photos, crop, warnings: images.flatMap(({ warnings }) => warnings) };
  return latest.warnings;
}

const isSame = (one, other) => one.length === other.length && one.every((file, index) => file === other[index]);
