"""A variational autoencoder for any fixed mesh topology.

The package knows nothing of faces and never imports `diverse3d`. Its rooms are the hierarchy of pooling levels, two
families of mesh convolution behind one interface (spatially varying and spiral), the models and their training.
"""

from typing import TYPE_CHECKING, Any

from ._errors import InputError as InputError
from ._files import clear_leftovers as clear_leftovers
from ._files import whole_file as whole_file

if TYPE_CHECKING:
    from ._public import *  # noqa: F403
else:

    def __getattr__(name: str) -> Any:
        """All other public names load at the first use of one (PEP 562): they take a second, those above nothing."""
        if name.startswith("_"):
            raise AttributeError(f"meshvae has no {name}")
        from . import _public

        return getattr(_public, name)
