"""The one exception that is meant for people."""


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one sentence that says what is wrong, where, and what to do about it. The command line prints it and
    exits with code 2; no traceback is shown.
    """


def one_line(text: object) -> str:
    """Something that comes from a file, or an error that may quote one, fit for a sentence: short and printable."""
    printable = "".join(letter if letter.isprintable() else " " for letter in str(text)[:400])
    return " ".join(printable.split())[:120] or type(text).__name__
