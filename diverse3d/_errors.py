"""The one exception that is meant for people, and words that are safe to show them."""

from meshvae._errors import InputError as InputError


def spelt_out(text: str) -> str:
    """Text with what steers a terminal, or is no text at all, as escapes: names of files may hold any bytes."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
