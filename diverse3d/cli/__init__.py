"""The command line: one typed command over each public function."""

from ._main import main as main
