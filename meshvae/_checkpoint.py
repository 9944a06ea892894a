"""Checkpoints of a training run, by orbax; each is complete or it is not there."""

import contextlib
import functools
import json
import logging
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import equinox as eqx
import jax
import numpy as np

from ._errors import InputError

T = TypeVar("T")
KEPT = 2
"""Newest checkpoints that are kept."""
IDENTITY = "identity.json"


class Checkpoints:
    """The checkpoints in a folder, all of one model and configuration."""

    def __init__(self, folder: Path, *, identity: dict[str, Any]) -> None:
        self.folder = Path(folder).absolute()
        self.identity = json.dumps(identity, sort_keys=True, default=str)
        self.folder.mkdir(parents=True, exist_ok=True)
        ocp = _orbax()
        options = ocp.CheckpointManagerOptions(max_to_keep=KEPT, enable_async_checkpointing=False)
        self.manager = ocp.CheckpointManager(self.folder, options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(*([Exception] if error is not None else [])):  # what went wrong first is said
            self.manager.close()

    def check_empty(self) -> None:
        """Raise `InputError` when there are checkpoints, which a new run would mix with its own."""
        if self.manager.latest_step() is not None:
            raise InputError(f"{self.folder} holds checkpoints already; go on with resume, or name another folder.")
        (self.folder / IDENTITY).write_text(self.identity)

    def save(self, state: Any) -> None:
        """Write a state under its own step; raises `InputError` where that can't be done, as on a full disk."""
        leaves = {f"{number:05d}": np.asarray(leaf) for number, leaf in enumerate(jax.tree.leaves(state))}
        try:
            self.manager.save(int(state.step), args=_orbax().args.StandardSave(leaves))
        except (OSError, ValueError, RuntimeError) as error:  # the writer's own words for it are many lines
            full = "No space left on device" in str(error)
            reason = "no space is left on its disk" if full else " ".join(str(error).split())[:200]
            raise InputError(
                f"{self.folder} can't be written ({reason}); make room or name another folder, and go on with resume."
            ) from None

    def newest(self, like: T) -> T | None:
        """The newest state, in the shape of `like`; None where there is none.

        Raises `InputError` when the checkpoints are of another topology, model or training configuration.
        """
        step = self.manager.latest_step()
        if step is None:
            return None
        known = self.folder / IDENTITY
        if not known.is_file() or known.read_text() != self.identity:
            raise InputError(
                f"{self.folder} holds checkpoints of another mesh, model or training configuration; "
                "use the same options as before, or name another folder."
            )
        leaves, structure = jax.tree.flatten(like)
        shapes = {f"{number:05d}": np.asarray(leaf) for number, leaf in enumerate(leaves)}
        try:
            stored = self.manager.restore(step, args=_orbax().args.StandardRestore(shapes))
        except (ValueError, KeyError, OSError) as error:
            raise InputError(f"{self.folder} holds a damaged checkpoint {step}; remove it and resume.") from error
        restored = [
            jax.numpy.asarray(stored[name], leaf.dtype) if eqx.is_array(leaf) else leaf
            for name, leaf in zip(shapes, leaves, strict=True)
        ]
        return jax.tree.unflatten(structure, restored)


@functools.cache
def _hush_closed_loops() -> None:
    """Let what orbax leaves unfinished when a save fails be cleared away without a traceback for each piece."""
    before = sys.excepthook  # which the C++ code behind orbax calls for each

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not (isinstance(error, RuntimeError) and "Event loop is closed" in str(error)):
            before(kind, error, trace)

    sys.excepthook = hook


def _orbax() -> Any:
    """Loaded only where something trains: it takes a second, which who only uses a model need not wait."""
    import orbax.checkpoint

    _hush_closed_loops()
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # orbax tells of every step, and of failures once more
    return orbax.checkpoint
