"""Trained models in one safetensors file: learned arrays, hierarchy, configuration, normalisation, model card."""

import dataclasses
import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialise

from ._config import ModelConfig
from ._errors import InputError, one_line
from ._files import whole_file
from ._hierarchy import Hierarchy, hierarchy_arrays, hierarchy_from_arrays
from ._memory import expected_parameters
from ._model import MaskedVAE, ResidualVAE, make_model

FORMAT = "meshvae 1"
MAX_FILE_BYTES = 1 << 30
"""Larger weight files are refused."""

_MOST_TEXT = 1 << 20
_LARGEST_SCALE = 2.0
"""Of offsets, over the mesh's own size."""


@dataclasses.dataclass(frozen=True)
class Trained:
    """A model with what it needs in order to be used."""

    model: MaskedVAE | ResidualVAE
    """The network."""
    hierarchy: Hierarchy
    """Its levels."""
    template: Float[np.ndarray, "V 3"]
    """What offsets are measured from, in the mesh's own unit."""
    scale: float
    """The population's RMS offset: offsets are (vertices - template) / scale."""
    residual_scale: float
    """Unit of a residual model's residuals; the scale again for a masked model."""
    card: Mapping[str, Any]
    """Data, steps, figures, limits."""
    sha256: str = ""
    """Hash of the file it was read from."""


def save_model(trained: Trained, path: Path, *, half: bool = False) -> str:
    """Write a model, whole or not at all; `half` stores the learned arrays in half precision. Returns its hash."""
    learned = eqx.filter(trained.model, eqx.is_inexact_array)
    kind = np.float16 if half else np.float32
    arrays = {f"model{name}": np.asarray(leaf, kind) for name, leaf in _named(learned)}
    arrays |= {f"hierarchy/{name}": array for name, array in hierarchy_arrays(trained.hierarchy).items()}
    arrays["template"] = np.asarray(trained.template, np.float32)
    description = {
        "format": FORMAT,
        "config": json.loads(trained.model.config.to_json()),
        "scale": float(trained.scale),
        "residual_scale": float(trained.residual_scale),
        "card": trained.card,
    }
    # One entry: safetensors writes several in an order of its own at every run.
    texts = {"meshvae": json.dumps(description, sort_keys=True)}
    # Not `ascontiguousarray`, which would give a number the shape of a list of one.
    content = serialise({name: np.asarray(array, order="C") for name, array in arrays.items()}, metadata=texts)
    with whole_file(path) as aside:
        aside.write_bytes(content)  # the library's own file would be closed to others, whatever the umask
    return hashlib.sha256(content).hexdigest()


def load_model(
    path: Path,
    *,
    fingerprint: str | None = None,
    sha256: str | None = None,
    dtype: Any = jnp.float32,
    form: str = "auto",
) -> Trained:
    """Read what `save_model` wrote.

    Raises `InputError` for a file that is missing, damaged, of another topology than `fingerprint`, or not the one that
    `sha256` names.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; name a file of trained weights.")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise InputError(f"{path} is larger than {MAX_FILE_BYTES >> 20} MB, more than weights can be.")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if sha256 is not None and digest != sha256:
        raise InputError(f"{path} is not the file it should be: its SHA-256 is {digest}, not {sha256}; fetch it again.")
    try:
        with safe_open(path, framework="numpy") as file:
            texts = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (the file is no mapping)
    except (SafetensorError, OSError, struct.error) as error:
        raise InputError(f"{path} is not a safetensors file ({one_line(error)}); it may be damaged.") from error
    outdated = f"{path} holds no weights of this version of meshvae; train them again."
    try:
        if len(texts["meshvae"]) > _MOST_TEXT:
            raise ValueError("a description of more than 1 MiB")
        description = json.loads(texts["meshvae"])
        known = description["format"] == FORMAT and "template" in arrays
        scale, residual_scale = float(description["scale"]), float(description["residual_scale"])
        card, settings = dict(description["card"]), json.dumps(description["config"])
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InputError(outdated) from error
    if not known:
        raise InputError(outdated)
    template = arrays["template"].astype(np.float64)
    sizes = np.array([scale, residual_scale])
    if template.ndim != 2 or template.shape[1] != 3 or not np.isfinite(template).all():
        raise InputError(f"{path}: its template is damaged.")
    if not ((sizes > 0).all() and (sizes < _LARGEST_SCALE * np.ptp(template, axis=0).max()).all()):
        raise InputError(f"{path}: its scale is damaged.")
    part = {name.removeprefix("hierarchy/"): array for name, array in arrays.items() if name.startswith("hierarchy/")}
    try:
        config = ModelConfig.from_json(settings)
        hierarchy = hierarchy_from_arrays(part, n_vertices=len(template))
    except InputError as error:
        raise InputError(f"{path} is damaged: {error}") from None
    if fingerprint is not None and hierarchy.fingerprint != fingerprint:
        raise InputError(f"{path} was trained for another mesh topology; use the head it belongs to, or train anew.")
    model = _filled(config, hierarchy, arrays, path, dtype, form)
    return Trained(
        model=model,
        hierarchy=hierarchy,
        template=template,
        scale=scale,
        residual_scale=residual_scale,
        card=card,
        sha256=digest,
    )


def _filled(
    config: ModelConfig, hierarchy: Hierarchy, arrays: Mapping[str, np.ndarray], path: Path, dtype: Any, form: str
) -> MaskedVAE | ResidualVAE:
    """A model with the file's arrays in place of its random ones."""
    # Before anything of the size that the configuration declares is made.
    stored = sum(array.size for name, array in arrays.items() if name.startswith("model"))
    if stored != (expected := expected_parameters(config, hierarchy)):
        raise InputError(
            f"{path}: its arrays are missing or of another shape than its configuration says ({stored:,} numbers, not "
            f"{expected:,}); it is damaged."
        )
    learned, rest = eqx.partition(make_model(config, hierarchy, key=jax.random.key(0), form=form), eqx.is_inexact_array)
    leaves = []
    for name, random in _named(learned):
        array = arrays.get(f"model{name}")
        if array is None or array.shape != random.shape or array.dtype.kind != "f":
            raise InputError(
                f"{path}: the array 'model{name}' is missing or of another shape than its configuration says."
            )
        if not np.isfinite(array).all():
            raise InputError(f"{path}: the array 'model{name}' holds values that are not finite.")
        leaves.append(jnp.asarray(array, dtype))
    return eqx.combine(jax.tree.unflatten(jax.tree.structure(learned), leaves), rest)


def _named(tree: Any) -> list[tuple[str, Any]]:
    """Leaves with the way to them, as `.decoder[0].bias`."""
    return [(jax.tree_util.keystr(way), leaf) for way, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]]
