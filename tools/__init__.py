"""What makes the data, weights and pictures of the repository: `python -m tools.NAME`."""

import os

os.environ.setdefault("DIVERSE3D_OWN_ASSETS", "1")  # they may be on the way to being made anew
