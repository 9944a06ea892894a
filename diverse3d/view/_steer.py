"""What a page can ask for: other completions, a part kept, a path, another mask, files. One thing at a time."""

import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float

from .. import _api
from .._errors import InputError, spelt_out
from .._methods import METHODS, get_method
from ..diversify import Posterior, choose_posterior
from ..fit import SCAN_NOISE, FitProblem, prepare
from ..head import HeadModel
from ..observe import PhotoObservation, with_mask

CHOICES = {
    "most different": "dpp",
    "best cover": "cover",
    "stand for all": "support",
    "independent": "independent",
}
"""What the page calls the choices of the table of methods."""

LARGEST = 1000
"""Completions that a page asks for at most."""


class Jobs:
    """A thread that does one thing after the other; what goes wrong is a sentence."""

    def __init__(self, said: Callable[[str, bool], None]) -> None:
        """`said` hears what is going on, and whether something is."""
        self._said, self._queue = said, queue.SimpleQueue[tuple[str, Callable[[], str]] | None]()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def ask(self, what: str, job: Callable[[], str]) -> None:
        """Do it when what was asked for before is done; it returns what to say then."""
        self._queue.put((what, job))

    def stop(self) -> bool:
        """Begin nothing further; whether nothing is going on any more after a moment."""
        self._queue.put(None)
        self._thread.join(timeout=2.0)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (asked := self._queue.get()) is not None:
            what, job = asked
            self._said(f"{what} …", True)
            try:
                text = job()
            except InputError as error:
                text = f"**Not done:** {error}"
            except Exception as error:
                # The page goes on: whoever looks at it loses nothing by what failed.
                text = f"**Failed:** {type(error).__name__}: {spelt_out(str(error))}"
            self._said(text, False)


class Steer:
    """A result and what can be made of it."""

    def __init__(self, result: _api.Result, weights: Path | None = None, problem: FitProblem | None = None) -> None:
        """`weights` are the trained ones that it was made with, if they are not the package's."""
        self.result, self._weights, self._problem = result, weights, problem
        self._posterior: Posterior | None = None
        self._seed = 0

    @property
    def head(self) -> HeadModel:
        """The head it was made with."""
        return self.result.head

    @property
    def choices(self) -> tuple[str, ...]:
        """The choices that the result's kind of method has."""
        sampler = self._sampler()
        names = {row.choice for row in METHODS.values() if row.sampler == sampler}
        return tuple(text for text, choice in CHOICES.items() if choice in names)

    @property
    def choice(self) -> str:
        """That of the result."""
        own = get_method(self.result.method).choice
        return next((text for text in self.choices if CHOICES[text] == own), self.choices[0])

    def _sampler(self) -> str:
        sampler = get_method(self.result.method).sampler
        return sampler if sampler in ("posterior", "hybrid") else "posterior"

    def method(self, choice: str) -> str:
        """The method that makes such a choice."""
        sampler = self._sampler()
        rows = METHODS.items()
        return next(name for name, row in rows if (row.sampler, row.choice) == (sampler, CHOICES[choice]))

    def posterior(self) -> Posterior:
        """The closed form of the fit, worked out once."""
        if self._posterior is None:
            noise = None if self.result.noise in ("none", SCAN_NOISE) else self.result.noise
            self._posterior = choose_posterior(self.result.seen, self.head, self.result.fit, noise)
        return self._posterior

    def _key(self) -> jax.Array:
        self._seed += 1
        return jax.random.key(self._seed)

    def _config(self, name: str, spread: float) -> Any:
        own = self.result.run.diversify
        config = own if name == self.result.method else own.replace(pool=None, hold=None, contraction=None)
        row = get_method(name)
        return row.settle(config.replace(contraction=spread * row.contraction))

    def pin(self, index: int, region: str, n: int, choice: str, spread: float) -> None:
        """New completions with a region of one kept."""
        name = self.method(choice)
        self._take(
            _api.pin(
                self.result, index, region, _count(n), key=self._key(), method=name,
                config=self._config(name, spread), posterior=self.posterior(), weights=self._weights,
            )
        )  # fmt: skip

    def draw(self, n: int, choice: str, spread: float) -> None:
        """New completions; what is pinned stays pinned."""
        name, result = self.method(choice), self.result
        self._take(
            _api.complete(
                result.seen, head=self.problem(), n=_count(n), method=name, key=self._key(), noise=self._noise(),
                fit_config=result.run.fit, config=self._config(name, spread), fitted=result.fit,
                posterior=self.posterior(), weights=self._weights, pin=result.pin,
            )
        )  # fmt: skip

    def hide(self, hidden: Bool[np.ndarray, "H W"]) -> None:
        """Everything again with another mask over the photo; raises `InputError` where the input is no photo."""
        result = self.result
        if not isinstance(result.seen, PhotoObservation):
            raise InputError("Only a photo has a mask; of a mesh, mark the hidden vertices in the file.")
        made = _api.complete(
            with_mask(result.seen, hidden), head=self.problem(), n=len(result.vertices), method=result.method,
            key=self._key(), noise=result.run.noise, fit_config=result.run.fit, config=result.run.diversify,
            weights=self._weights,
        )  # fmt: skip
        self._posterior = None
        self._take(made)

    def path(self, first: int, second: int) -> Float[np.ndarray, "F V 3"]:
        """Heads from one completion to another, world frame."""
        weights = self._weights
        path = _api.interpolate(self.result, first, second, frames=9, head=self.head, weights=weights)
        return np.asarray(path.vertices, np.float32)

    def save(self, folder: str) -> Path:
        """Write the result as the commands do; raises `InputError` where it can't be written."""
        if not folder.strip():
            raise InputError("Name a folder to write to.")
        return self.result.save(folder.strip(), options={"command": "view"})

    def problem(self) -> FitProblem:
        """What depends on the head alone, prepared once."""
        if self._problem is None:
            self._problem = prepare(self.head)
        return self._problem

    def _noise(self) -> str | None:
        return self.result.run.noise

    def _take(self, made: _api.Result) -> None:
        self.result = made


def _count(n: int) -> int:
    if n > LARGEST:
        raise InputError(f"{n} completions were asked for; ask for at most {LARGEST} here.")
    return n
