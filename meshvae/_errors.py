"""The one exception that is meant for people."""


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one sentence that says what is wrong, where, and what to do about it. The command line prints it and
    exits with code 2; no traceback is shown.
    """
