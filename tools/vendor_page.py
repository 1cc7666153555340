"""Copy the third-party files of the browser page from their npm packages: `python -m tools.vendor_page` (needs npm).

Versions and hashes are pinned here. The hash of a package is the `integrity` that the npm registry publishes for it.
"""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "api/page/static/vendor"
SPRITE = "icons.svg"
CHECKSUMS = "SHA256SUMS"
ICONS = (
    "brush",
    "clock",
    "copy",
    "dices",
    "download",
    "graduation-cap",
    "image-plus",
    "images",
    "key-round",
    "list-ordered",
    "pause",
    "pencil",
    "play",
    "rotate-ccw",
    "search",
    "sparkles",
    "trash-2",
    "x",
)


@dataclass(frozen=True)
class Package:
    """A pinned npm package.

    Attributes:
        name: name and version.
        sha512: base64 of the archive's SHA-512.
        files: path in the package → name in the folder.
    """

    name: str
    sha512: str
    files: dict[str, str]


PACKAGES = (
    Package(
        "@picocss/pico@2.1.1",
        "kIDugA7Ps4U+2BHxiNHmvgPIQDWPDU4IeU6TNRdvXQM1uZX+FibqDQT2xUOnnO2yq/LUHcwnGlu1hvf4KfXnMg==",
        {"css/pico.min.css": "pico.min.css", "LICENSE.md": "LICENSE-pico.md"},
    ),
    Package(
        "uplot@1.6.32",
        "KIMVnG68zvu5XXUbC4LQEPnhwOxBuLyW1AHtpm6IKTXImkbLgkMy+jabjLgSLMasNuGGzQm/ep3tOkyTxpiQIw==",
        {
            "dist/uPlot.iife.min.js": "uPlot.iife.min.js",
            "dist/uPlot.min.css": "uPlot.min.css",
            "LICENSE": "LICENSE-uPlot",
        },
    ),
    Package(
        "lucide-static@1.62.0",
        "WBZA/m2PvkFpMGHDtsBck5P2A9G4ehLlYu4GwwICcmEm1BvYVgj00lCDxKRWLlbMlOibLaiwdQ88G5pHkSWgwA==",
        {"LICENSE": "LICENSE-lucide"},
    ),
)


def main() -> None:
    """Download each package, check its hash and write its files."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        with (
            tempfile.TemporaryDirectory() as folder,
            tarfile.open(_download(package, Path(folder))) as archive,
        ):
            for source, target in package.files.items():
                (FOLDER / target).write_bytes(_member(archive, source))
            if package.name.startswith("lucide-static@"):
                (FOLDER / SPRITE).write_text(_sprite(archive), encoding="utf-8")
        print(package.name)
    (FOLDER / CHECKSUMS).write_text(checksums(), encoding="utf-8")


def checksums() -> str:
    """Return the SHA-256 of each file in the folder, in the format of `sha256sum`."""
    files = sorted(file for file in FOLDER.iterdir() if file.name != CHECKSUMS)
    return "".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files)


def _download(package: Package, folder: Path) -> Path:
    subprocess.run(
        ["npm", "pack", "--silent", package.name], cwd=folder, check=True, stdout=subprocess.DEVNULL
    )
    (archive,) = folder.glob("*.tgz")
    found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != package.sha512:
        raise SystemExit(f"{package.name}: got SHA-512 {found}; expected {package.sha512}")
    return archive


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    content = archive.extractfile(f"package/{name}")
    assert content is not None, f"{name} is no file"
    return content.read()


def _sprite(archive: tarfile.TarFile) -> str:
    """Return one SVG file with a symbol for each icon."""
    symbols = (
        f'<symbol id="{icon}" viewBox="0 0 24 24">{_shapes(_member(archive, f"icons/{icon}.svg").decode())}</symbol>'
        for icon in ICONS
    )
    return "\n".join(
        [
            '<svg xmlns="http://www.w3.org/2000/svg">',
            "<!-- lucide-static, ISC license -->",
            *symbols,
            "</svg>\n",
        ]
    )


def _shapes(icon: str) -> str:
    found = re.search(r"<svg[^>]*>(.*)</svg>", icon, re.DOTALL)
    assert found is not None, "an icon is one svg element"
    return " ".join(found[1].split())


if __name__ == "__main__":
    main()
