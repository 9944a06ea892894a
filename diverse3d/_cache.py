"""The user's cache folder, and jax's compiled code in it."""

import os
from pathlib import Path


def cache_folder() -> Path | None:
    """The user's cache folder for this program, made if need be; None where there can't be one."""
    try:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "diverse3d"
        root.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # read-only, or no home at all: everything works without
        return None
    return root


def use_compilation_cache() -> None:
    """Keep compiled code between runs."""
    import jax

    root = cache_folder()
    if root is not None and "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(root / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
