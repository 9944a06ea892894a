"""The command `complete`: all that can be refused is refused before anything heavy starts."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ._options import DiversifyOptions, FitOptions, FitSettings
from ._progress import Reporter

if TYPE_CHECKING:
    from .._api import Result
    from ..fit import FitProblem
    from ..head import HeadModel
    from ..observe import Observation
    from ..show import Stages


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompleteSettings(DiversifyOptions, FitSettings):
    """How inputs are completed, whatever they are."""

    light: Literal["kept", "removed"] = "kept"
    """Whether a photo's light stays on the textures or is taken away, which leaves the colour of the skin."""
    no_report: bool = False
    """Write no report.html."""

    def chosen(self, head: "HeadModel") -> str:
        """The method for a head; raises `InputError` for what can't be done with it."""
        from .._methods import get_method, selected
        from ..diversify import check, default_method

        name = selected(self.method or default_method(head), self.select)
        check(name, get_method(name).head(head), self.n, self.config(), noise=self.noise, weights=self.weights)
        return name


@dataclasses.dataclass(frozen=True, kw_only=True)
class Complete(CompleteSettings, FitOptions):
    """One occluded face in, N plausible heads that agree with what is visible out."""

    @property
    def needed(self) -> tuple[Path | None, ...]:
        """The files that are read."""
        return (*super().needed, self.weights)

    def check_settings(self) -> None:
        """Refuse what can be refused without looking at any file: raises `InputError`."""
        from .._methods import get_method

        super().check_settings()
        self.config()
        if self.method is not None:
            get_method(self.method)

    def run(self) -> int:
        """Fit, complete, write."""
        from .. import show
        from ..head import load_head

        self.check()
        reporter = Reporter(self, ("head", "observe", "prepare", "fit", "complete", "draw", "write"))
        stages = show.Stages(reporter)
        with reporter.shown():
            with stages("head"):
                head = load_head(self.head, residual=self.residual)
            name = self.chosen(head)
            with stages("observe"):
                seen = self.observe(head)
            result = self.complete(seen, head, name, stages)
            self.save(result, stages)
        made = f"{len(result.vertices)} completions by {name}"
        look = "contact-sheet.png" if self.no_report else show.REPORT_NAME
        return self.finish(made, show.warnings_of(seen, result.fit, result), stages.seconds, look=look)

    def complete(self, seen: "Observation", head: "HeadModel | FitProblem", name: str, stages: "Stages") -> "Result":
        """The heads for what is seen; a `FitProblem` is that of the method's own head."""
        from .. import _api

        return _api.complete(
            seen, head=head, n=self.n, method=name, key=self.key(), noise=self.noise,
            fit_config=self.fit_config(), config=self.config(), weights=self.weights, stages=stages,
        )  # fmt: skip

    def save(self, result: "Result", stages: "Stages", facts: dict[str, Any] | None = None) -> None:
        """Write them, with further `facts` in the record's configuration."""
        result.save(
            self.out, force=self.force, light=self.light, stages=stages, options=self.facts() | (facts or {}),
            report=not self.no_report,
        )  # fmt: skip
