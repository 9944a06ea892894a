"""The strict session: double precision, no silent broadcasting or promotion, every shape checked by machine."""

import dataclasses
import gc
import os
import shutil
import tempfile
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
if "DIVERSE3D_TEST_CACHE" not in os.environ:  # made once, by the process that starts the workers, and theirs too
    _cache = tempfile.TemporaryDirectory(prefix="diverse3d-tests-")
    os.environ["DIVERSE3D_TEST_CACHE"] = _cache.name

import equinox as eqx
import jax
import jaxtyping
import numpy as np
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_disable_most_optimizations", True)  # tests compile much and compute little
# What one test compiled, every later one and every worker finds, also after the clearing below.
jax.config.update("jax_compilation_cache_dir", os.environ["DIVERSE3D_TEST_CACHE"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
# Before either package is imported: every annotated function then checks its arguments and its result.
jaxtyping.install_import_hook(["diverse3d", "meshvae"], "beartype.beartype")

from helpers import flame_arrays, tiny_arrays  # noqa: E402

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_configure(config):
    """Where several workers share the cores, each has one thread for linear algebra: more would wait for each other,
    and burn the others' time as they do."""
    if getattr(config.option, "numprocesses", None):
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


@pytest.fixture(scope="module", autouse=True)
def forget_what_was_compiled():
    """Compiled code is forgotten after each file: a process may map some 65,000 pieces of memory, and all tests'
    functions together need more, which ends in a segmentation fault."""
    yield
    # Equinox's own caches hold on to what jax's hold, and both to what only a collection frees.
    eqx.clear_caches()
    jax.clear_caches()
    gc.collect()


@pytest.fixture
def key() -> jax.Array:
    """A fresh but fixed random key."""
    return jax.random.key(20240229)


@pytest.fixture
def rng() -> np.random.Generator:
    """A fresh but fixed numpy generator."""
    return np.random.default_rng(20240229)


@pytest.fixture
def single_precision():
    """The run-time session: jax's own single-precision mode (optimistix mixes types when x64 is on)."""
    with jax.enable_x64(False):
        yield


@pytest.fixture
def optax_promotion():
    """For tests that run optax's Adam, whose bias correction raises a float to an integer array."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the project; tests that need it are skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"reference data is not there ({SHARED})")
    return SHARED


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium, which draws WebGL without a graphics card."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("there is no Chromium; install the package chromium to test what a browser shows")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as session:
        options = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
        started = session.chromium.launch(executable_path=path, args=options)
        yield started
        started.close()


@pytest.fixture(scope="session")
def tiny_head():
    """A made-up head of a hundred vertices with everything that a head file may hold."""
    from diverse3d.head import head_from_arrays

    return head_from_arrays(tiny_arrays(), name="tiny")


@pytest.fixture
def coloured(tiny_head, rng):
    """The tiny head with a made-up albedo of four components."""
    from diverse3d.head import Albedo

    count = tiny_head.n_vertices
    mean = np.log(0.35) + 0.2 * rng.normal(size=(1, 3)) + 0.05 * rng.normal(size=(count, 3))
    whole = np.broadcast_to([-0.3, -0.5, -0.7], (1, count, 3))
    parts = 0.1 * rng.normal(size=(3, count, 3))
    albedo = Albedo(jax.numpy.asarray(mean), jax.numpy.asarray(np.concatenate([whole, parts])), True)
    return dataclasses.replace(tiny_head, albedo=albedo)


@pytest.fixture(scope="session")
def flame_head(shared: Path):
    """FLAME 2023 Open's template, first 60 components, joints, landmarks and regions (no skinning weights)."""
    from diverse3d.head import head_from_arrays

    return head_from_arrays(flame_arrays(shared / "flame"), name="flame")
