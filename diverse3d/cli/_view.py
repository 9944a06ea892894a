"""The command `view`: a result in the browser, to look at and to steer."""

import dataclasses
import os
import sys
import time
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from .._errors import InputError
from ._options import Common, OptionalFile
from ._progress import Reporter

_IDLE_S = 15.0
"""How long the making of what steering needs waits for somebody to look."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class View(Common):
    """Look at a result in the browser, and steer it: a folder of one, or a photo or scan that is completed first."""

    input: Positional[Annotated[Path, arg(metavar="DIR|PHOTO|SCAN")]]
    """Folder that `complete`, `demo` or `pin` wrote; or a photo or scan."""
    mask: OptionalFile = None
    """What hides the face, of a photo or scan (see `complete`)."""
    occlude: Annotated[str | None, arg(metavar="REGION")] = None
    """What to paint over a photo (see `complete`)."""
    n: Annotated[int, arg(aliases=["-n"])] = 20
    """How many completions of a photo or scan."""
    head: OptionalFile = None
    """Head file that the result was made with; the embedded head if not given."""
    weights: OptionalFile = None
    """Trained weights that the result was made with; the ones in the package if not given."""
    host: str = "127.0.0.1"
    """Address to listen at; whoever reaches it can steer and write files."""
    port: Annotated[int | None, arg(metavar="INT")] = None
    """Port to listen at; a free one if not given."""

    left = "the page is closed"

    def check_paths(self) -> None:
        """Refuse what can be refused by looking at names alone: raises `InputError`."""
        from ..files import check_there
        from ..view._serve import check_viser, choose_port

        check_viser()
        if not self.input.is_dir():
            check_there(self.input)
        choose_port(self.host, self.port)

    def run(self) -> int:
        """Show until interrupted."""
        try:
            if self.input.is_dir():
                return self._folder()
            return self._fresh()
        except KeyboardInterrupt:
            return 0

    def _folder(self) -> int:
        from ..view import Steer, read_shown
        from ._stored import read_completions, read_record, read_result

        record, run = read_record(self.input)
        arrays = read_completions(self.input)

        def ready() -> Steer:
            from ..show import Stages

            result, _ = read_result(self.input, record, run, arrays, head_file=self.head, stages=Stages())
            return Steer(result, self.weights)

        return self._serve(read_shown(self.input, record, arrays), ready)

    def _fresh(self) -> int:
        from .. import _api, show
        from ..head import load_head
        from ..view import Shown, Steer
        from ._complete import Complete

        command = Complete(
            input=self.input, out=Path("out"), mask=self.mask, occlude=self.occlude, head=self.head, n=self.n,
            weights=self.weights, seed=self.seed, quiet=self.quiet,
        )  # fmt: skip
        if self.n < 1:
            raise InputError(f"{self.n} completions were asked for; ask for at least 1.")
        reporter = Reporter(self, ("head", "observe", "prepare", "fit", "complete"))
        stages = show.Stages(reporter)
        with reporter.shown():
            with stages("head"):
                head = load_head(self.head)
            with stages("observe"):
                seen = command.observe(head)
            result = _api.complete(seen, head=head, n=self.n, key=command.key(), weights=self.weights, stages=stages)
        return self._serve(Shown.of(result), lambda: Steer(result, self.weights))

    def _serve(self, shown: object, ready: object) -> int:
        from ..view import Page, serve

        with serve(self.host, self.port, "diverse3d") as server:
            page = Page(server, shown, ready, idle_s=_IDLE_S)  # type: ignore[arg-type]
            named = f"[{self.host}]" if ":" in self.host else self.host
            try:
                # In here: whoever reads the line may end it at once.
                if not self.quiet:
                    print(f"open http://{named}:{server.get_port()} (Ctrl-C ends it)", file=sys.stderr, flush=True)
                while True:
                    time.sleep(3600)
            finally:
                idle = page.stop()
                if not idle and isinstance(sys.exc_info()[1], KeyboardInterrupt):
                    # What is being compiled can't be interrupted, and nothing of it is on the disk.
                    sys.stderr.flush()
                    os._exit(0)
