"""The table of what the package carries: SHA-256 by name, in the form that `sha256sum -c` reads.

    python -m tools.hash_assets

To be run whenever a file of `diverse3d/assets` is made anew; a test compares.
"""

import hashlib

from diverse3d._assets import ASSETS, TABLE_NAME


def table() -> str:
    """The lines of the table."""
    names = sorted(path.name for path in ASSETS.iterdir() if path.is_file() and path.name != TABLE_NAME)
    return "".join(f"{hashlib.sha256((ASSETS / name).read_bytes()).hexdigest()}  {name}\n" for name in names)


if __name__ == "__main__":
    (ASSETS / TABLE_NAME).write_text(table(), encoding="utf-8")
