"""What commands say besides their result."""

import sys
from collections.abc import Mapping


def say(text: str, quiet: bool = False) -> None:
    """One line on stderr, unless quiet."""
    if not quiet:
        print(text, file=sys.stderr, flush=True)


def show_table(rows: Mapping[str, str]) -> None:
    """Print names and values, aligned."""
    width = max((len(name) for name in rows), default=0)
    for name, value in rows.items():
        print(f"{name:<{width}}  {value}".rstrip())
