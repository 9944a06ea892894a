"""The command `complete`: all that can be refused is refused before anything heavy starts."""

import dataclasses
from pathlib import Path
from typing import Literal

from ._options import DiversifyOptions, FitOptions
from ._progress import Reporter


@dataclasses.dataclass(frozen=True, kw_only=True)
class Complete(DiversifyOptions, FitOptions):
    """One occluded face in, N plausible heads that agree with what is visible out."""

    light: Literal["kept", "removed"] = "kept"
    """Whether a photo's light stays on the textures or is taken away, which leaves the colour of the skin."""
    no_report: bool = False
    """Write no report.html."""

    @property
    def needed(self) -> tuple[Path | None, ...]:
        """The files that are read."""
        return (*super().needed, self.weights)

    def run(self) -> int:
        """Fit, complete, write."""
        from .. import _api, show
        from .._methods import get_method, selected
        from ..diversify import check, default_method
        from ..head import load_head

        self.check()
        config = self.config()
        if self.method is not None:
            get_method(self.method)
        reporter = Reporter(self, ("head", "observe", "prepare", "fit", "complete", "draw", "write"))
        stages = show.Stages(reporter)
        with reporter.shown():
            with stages("head"):
                head = load_head(self.head, residual=self.residual)
            name = selected(self.method or default_method(head), self.select)
            own = get_method(name).head(head)
            check(name, own, self.n, config, noise=self.noise, weights=self.weights)
            with stages("observe"):
                seen = self.observe(head)
            result = _api.complete(
                seen, head=head, n=self.n, method=name, key=self.key(), noise=self.noise,
                fit_config=self.fit_config(), config=config, weights=self.weights, stages=stages,
            )  # fmt: skip
            result.save(
                self.out, force=self.force, light=self.light, stages=stages, options=self.facts(),
                report=not self.no_report,
            )  # fmt: skip
        made = f"{len(result.vertices)} completions by {name}"
        look = "contact-sheet.png" if self.no_report else show.REPORT_NAME
        return self.finish(made, show.warnings_of(seen, result.fit, result), stages.seconds, look=look)
