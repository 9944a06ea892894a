"""Two columns of text."""

from collections.abc import Mapping


def show_table(rows: Mapping[str, str]) -> None:
    """Print names and values, aligned."""
    width = max((len(name) for name in rows), default=0)
    for name, value in rows.items():
        print(f"{name:<{width}}  {value}".rstrip())
