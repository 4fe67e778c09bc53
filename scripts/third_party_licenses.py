"""Rewrite THIRD_PARTY_LICENSES from the packages installed beside das3r: ``python scripts/third_party_licenses.py``."""

import importlib.metadata
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
# Packages whose own metadata names no licence, or a wrong one; read from the licence file they ship.
READ_BY_HAND = {"gsplat": "Apache-2.0", "nerfacc": "MIT", "nuscenes-devkit": "Apache-2.0", "pymeshlab": "GPL-3.0"}

HEAD = """\
THIRD-PARTY LICENCES

das3r itself is licensed under the Apache License 2.0 (LICENSE). It contains no code of the packages below: pip installs
them beside it, each under its own licence.

Worth knowing
  - plyfile and pymeshlab (GPL) come with nerfstudio. das3r imports neither.
  - PyAV's wheels carry FFmpeg, which calls itself LGPL-3.0-or-later there, together with the libraries x264 and x265
    (GPL-2.0-or-later). das3r reads and writes video through PyAV's interface.
  - OpenCV's wheels carry FFmpeg too (LGPL-2.1-or-later).
  - The trained network weights that the authors of DAS3R, MonST3R and DUSt3R published are for non-commercial use only.
    das3r contains none of them and needs none: its front end `geometric` has no trained weights at all. Its command
    `das3r weights` fetches them for whoever asks for it.
  - transformers (Apache-2.0) is used where it is installed, for masks refined with SAM 2: the extra `sam2`. das3r
    contains no weights of SAM 2 (published under Apache-2.0), and fetches them only when they are named.
  - gsply (MIT) is used where it is installed, to write .spz files: the extra `spz`.
  - usd-core (a modified Apache-2.0, "TOST-1.0") is used where it is installed, to write USD: the extra `usd`. OpenEXR
    (BSD-3-Clause) is used where it is installed, to write EXR pictures: the extra `exr`.
  - pycolmap (BSD-3-Clause) is used where it is installed, for COLMAP's cameras: the extra `colmap`.
  - ray (Apache-2.0) and fsspec (BSD-3-Clause) are used where they are installed, by `das3r batch`: the extra `cluster`.
  - pycolmap and evo (GPL-3.0) check das3r's results in its tests: the extra `dev`. Nothing that is installed for use
    has to do with evo.
  - nerfstudio's LPIPS metric uses AlexNet weights from torchvision, which are fetched only when that metric is asked
    for.
"""


def normalised(name: str) -> str:
    """Name of a distribution in the one spelling that compares equal (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(name: str) -> list[str]:
    """Names of what an installed distribution requires, without its extras."""
    lines = importlib.metadata.requires(name) or []
    return [normalised(re.split(r"[^A-Za-z0-9._-]", line)[0]) for line in lines if "extra ==" not in line]


def licence(name: str) -> str:
    """Licence of an installed distribution, from its metadata."""
    if name in READ_BY_HAND:
        return READ_BY_HAND[name]
    metadata = importlib.metadata.metadata(name)
    classifiers = [c.split(" :: ")[-1] for c in metadata.get_all("Classifier") or [] if c.startswith("License :: ")]
    named = metadata.get_all("License-Expression") or classifiers or metadata.get_all("License")
    if not named:
        raise SystemExit(f"{name} names no licence in its metadata: read it and add it to READ_BY_HAND")
    return "; ".join(named).splitlines()[0]


def table(names: list[str]) -> str:
    """One line for each distribution: name, version, licence."""
    rows = [f"  {name:28s} {importlib.metadata.version(name):14s} {licence(name)}" for name in sorted(names)]
    return "\n".join(rows) + "\n"


def main() -> None:
    """Write the file."""
    direct = requirements("das3r-ns")
    indirect: set[str] = set()
    queue = list(direct)
    while queue:
        for name in requirements(queue.pop()):
            try:
                importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue  # for another platform
            if name not in indirect and name not in direct:
                indirect.add(name)
                queue.append(name)
    text = f"{HEAD}\nRequired by das3r (versions: those it was last tested with)\n{table(direct)}"
    text += f"\nRequired by those\n{table(list(indirect))}"
    (ROOT / "THIRD_PARTY_LICENSES").write_text(text)


if __name__ == "__main__":
    main()
