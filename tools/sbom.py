"""What an installation brings along: a CycloneDX list of all packages, and a table of their licences.

    python -m tools.sbom

Written from what is installed, so to be run where `pip install -c constraints.txt .` was. Nothing is fetched.
"""

import argparse
import json
import re
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
_LONG_NAMES = {
    "Apache Software License": "Apache-2.0", "Apache 2.0": "Apache-2.0", "Apache License 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0", "MIT License": "MIT", "MIT license": "MIT",
    "3-Clause BSD License": "BSD-3-Clause", "ISC License (ISCL)": "ISC", "BSD License": "BSD",
    "Python Software Foundation License": "PSF-2.0", "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}  # fmt: skip
"""Licences as packages name them, by their SPDX names."""


def needed(root: str) -> dict[str, metadata.Distribution]:
    """All distributions that one needs, itself left out, for this Python and system; by normal name, sorted."""
    found: dict[str, metadata.Distribution] = {}
    open_ends = [(root, frozenset[str]())]
    while open_ends:
        name, extras = open_ends.pop()
        for text in metadata.distribution(name).requires or ():
            wanted = Requirement(text)
            marker = wanted.marker
            if marker is not None and not any(marker.evaluate({"extra": extra}) for extra in {"", *extras}):
                continue
            other = canonicalize_name(wanted.name)
            if other not in found:
                found[other] = metadata.distribution(other)
                open_ends.append((other, frozenset(wanted.extras)))
    return dict(sorted(found.items()))


def licence(package: metadata.Distribution) -> str:
    """What a package says of its licence, by its SPDX name where that can be told; `unknown` where it says nothing."""
    about = package.metadata
    if "License-Expression" in about:
        return about["License-Expression"]
    classes = [text.split(" :: ")[-1] for text in about.get_all("Classifier") or () if text.startswith("License ::")]
    classes = [text for text in classes if text != "OSI Approved"]
    stated = about["License"].strip() if "License" in about else ""
    names = classes or ([re.sub(r"\s+", " ", stated.splitlines()[0])[:60]] if stated else ["unknown"])
    return " OR ".join(_LONG_NAMES.get(name, name) for name in names)


def bill(packages: dict[str, metadata.Distribution]) -> dict[str, object]:
    """A CycloneDX 1.6 list: the same packages give the same bytes, so it holds no time and no number of its own."""
    components = [
        {
            "type": "library", "bom-ref": f"pkg:pypi/{name}@{package.version}", "name": name,
            "version": package.version, "purl": f"pkg:pypi/{name}@{package.version}",
            "licenses": [{"license": {"name": licence(package)}}],
        }
        for name, package in packages.items()
    ]  # fmt: skip
    own = {"type": "application", "name": "diverse3d", "version": metadata.version("diverse3d")}
    table: dict[str, object] = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1}
    return table | {"metadata": {"component": own}, "components": components}


def report(packages: dict[str, metadata.Distribution]) -> str:
    """The table of licences."""
    rows = [f"| {name} | {package.version} | {licence(package)} |" for name, package in packages.items()]
    same = "Made by `python -m tools.sbom` on Python 3.11 and Linux; the same as CycloneDX: [sbom.json](sbom.json)."
    head = f"# Licences of what is installed along\n\n{same}\n"
    return "\n".join([head, "| package | version | licence |", "|---|---|---|", *rows, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="folder for licences.md and sbom.json")
    out, packages = parser.parse_args().out, needed("diverse3d")
    (out / "sbom.json").write_text(json.dumps(bill(packages), indent=1) + "\n", encoding="utf-8")
    (out / "licences.md").write_text(report(packages), encoding="utf-8")


if __name__ == "__main__":
    main()
