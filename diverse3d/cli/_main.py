"""Arguments in, exit code out."""

import contextlib
import io
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Annotated, Any

import tyro
from tyro.conf import subcommand

from .._cache import quiet_and_healing, use_compilation_cache
from .._errors import InputError, spelt_out
from ._batch import Batch
from ._benchmark import Benchmark
from ._complete import Complete
from ._demo import Demo
from ._doctor import Doctor
from ._export import Export
from ._fit import Fit
from ._head import Head
from ._interpolate import Interpolate
from ._pin import Pin
from ._register import Register
from ._replay import Replay
from ._score import Score
from ._train import Train
from ._view import View

OK, FAILURE, BAD_INPUT = 0, 1, 2

Command = (
    Annotated[Demo, subcommand("demo")]
    | Annotated[Complete, subcommand("complete")]
    | Annotated[Batch, subcommand("batch")]
    | Annotated[Fit, subcommand("fit")]
    | Annotated[Head, subcommand("head")]
    | Annotated[Train, subcommand("train")]
    | Annotated[Register, subcommand("register")]
    | Annotated[Replay, subcommand("replay")]
    | Annotated[Interpolate, subcommand("interpolate")]
    | Annotated[Pin, subcommand("pin")]
    | Annotated[View, subcommand("view")]
    | Annotated[Export, subcommand("export")]
    | Annotated[Score, subcommand("score")]
    | Annotated[Benchmark, subcommand("benchmark")]
    | Annotated[Doctor, subcommand("doctor")]
)

_DESCRIPTION = "One occluded face in, N plausible and diverse 3D heads out."


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 2 for bad input, 1 for any other failure.

    `argv` is by default the process's arguments. Nothing but its own output folder is written, and that whole or not
    at all.
    """
    said = io.StringIO()
    for stream in (sys.stdout, sys.stderr):  # a name may hold bytes that are no text
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        with contextlib.redirect_stderr(said):
            command = tyro.cli(
                Command,
                args=argv,
                prog="diverse3d",
                description=_DESCRIPTION,
                config=(tyro.conf.OmitSubcommandPrefixes, tyro.conf.FlagCreatePairsOff),
            )
    except SystemExit as stop:  # tyro has said what is wrong, or printed the help
        if (wrong := _of_settings(stop)) is not None:
            return _say(wrong, BAD_INPUT)
        print(said.getvalue(), end="", file=sys.stderr)
        return stop.code if isinstance(stop.code, int) else OK
    debug = bool(os.environ.get("DIVERSE3D_DEBUG"))
    before = _stop_on_sigterm()
    try:
        if hasattr(command, "check_paths"):  # before jax, which takes seconds to import
            command.check_paths()
        with quiet_and_healing(quiet=not debug):
            use_compilation_cache()
            return command.run()
    except InputError as error:
        return _say(str(error), BAD_INPUT)
    except KeyboardInterrupt:
        return _say(f"interrupted; {getattr(command, 'left', 'nothing was written')}", FAILURE)
    except OSError as error:
        if debug or error.filename is None:
            return _failed(error, debug=debug)
        return _say(f"{error.filename} can't be used ({error.strerror}); check path, permissions and disk", BAD_INPUT)
    except Exception as error:
        return _failed(error, debug=debug)
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def _failed(error: Exception, *, debug: bool) -> int:
    """Say what nobody foresaw; with `debug` raise it instead."""
    if debug:
        raise error
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return _say(f"{text}; set DIVERSE3D_DEBUG=1 for the traceback", FAILURE)


def _of_settings(stop: SystemExit) -> str | None:
    """What a part of the settings refused, if that ended the parsing: its message begins with the option's name."""
    cause: BaseException | None = stop
    while cause is not None and not isinstance(cause, InputError):
        cause = cause.__context__
    return None if cause is None else f"--{str(cause).replace('_', '-', 1)}"


def _say(message: str, code: int) -> int:
    """One line on stderr, whatever the message holds: bytes that steer a terminal, or are no text, are spelt out."""
    print("diverse3d:", spelt_out(" ".join(message.split())), file=sys.stderr)
    return code


def _stop_on_sigterm() -> Any:
    """Let a polite kill clean up as Ctrl-C does; returns the former handler, None where signals are not ours."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        return signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread
        return None
