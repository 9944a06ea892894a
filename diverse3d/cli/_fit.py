"""The command `fit`: stage 1 alone."""

import dataclasses

from ._options import FitOptions
from ._progress import Reporter


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fit(FitOptions):
    """Stage 1 alone: the single best head."""

    def run(self) -> int:
        """Fit, write."""
        import jax

        from .. import _api, show
        from ..diversify import DiversifyConfig
        from ..fit import fit, prepare
        from ..head import load_head

        self.check()
        reporter = Reporter(self, ("head", "observe", "prepare", "fit", "draw", "write"))
        stages = show.Stages(reporter)
        with reporter.shown():
            with stages("head"):
                head = load_head(self.head, residual=self.residual)
            with stages("observe"):
                seen = self.observe(head)
            with stages("prepare"):
                problem = prepare(head)
                jax.block_until_ready(problem.smoothness)
            with stages("fit"):
                fitted = fit(seen, problem, self.fit_config())
                jax.block_until_ready(fitted.vertices_m)
            run = _api.describe(
                head, key=self.key(), n=0, method="fit", noise=None, fit_config=self.fit_config(),
                config=DiversifyConfig(), stages=stages,
            )  # fmt: skip
            show.save_fit(seen, fitted, head, self.out, force=self.force, run=run, stages=stages, options=self.facts())
        return self.finish("the fit", show.warnings_of(seen, fitted), stages.seconds)
