"""The command `demo`: the first result without a photo of one's own."""

import dataclasses
from pathlib import Path

from .. import DEMO_PHOTO
from ._complete import Complete
from ._options import Common


@dataclasses.dataclass(frozen=True, kw_only=True)
class Demo(Common):
    """The bundled photo, its mouth and nose covered by a face mask: 20 completions."""

    out: Path
    """Folder to write."""
    force: bool = False
    """Replace the result that the output folder already holds."""
    no_report: bool = False
    """Write no report.html."""

    def run(self) -> int:
        """Run `complete` on the bundled photo."""
        return Complete(
            input=DEMO_PHOTO,
            out=self.out,
            occlude="face-mask",
            force=self.force,
            seed=self.seed,
            quiet=self.quiet,
            no_report=self.no_report,
        ).run()
