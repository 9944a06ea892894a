"""What a model card says of a trained model: its errors on heads that it never saw, behind the three occluders."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ..diversify import Learned
from ..fit import load_noise
from ..head import HeadModel
from ..observe import occluded_vertices
from ..raster import facing_camera
from ._components import ComponentSource, component_loss, component_source
from ._residual import ResidualSource, error_fields, linearise, make_views

OCCLUDERS = ("glasses", "face-mask", "random")
_SAMPLES = 16


def masked_figures(learned: Learned, head: HeadModel, heads_m: Float[np.ndarray, "H V 3"]) -> dict[str, Any]:
    """Mean vertex error in mm of whole heads, and hidden and visible behind each occluder, of the decoded mean."""

    @jax.jit
    def error_mm(head_m: Float[Array, "V 3"], visible: Bool[Array, " V"]) -> Float[Array, " V"]:
        latent = learned.masked.encode(learned.offsets(head_m), visible)
        return 1e3 * jnp.linalg.norm(learned.vertices(learned.masked.decode(latent.mean)) - head_m, axis=1)

    heads = jnp.asarray(heads_m, head.dtype)
    seen = jnp.ones(head.n_vertices, bool)
    result: dict[str, Any] = {
        "heads": len(heads_m), "whole_mm": _mean([error_mm(one, seen) for one in heads]), "occluders": {}
    }  # fmt: skip
    for occluder in OCCLUDERS:
        hidden = occluder_masks(head, heads_m, occluder)
        errors = [np.asarray(error_mm(one, jnp.asarray(~mask))) for one, mask in zip(heads, hidden, strict=True)]
        result["occluders"][occluder] = {
            "hidden_mm": _mean([error[mask] for error, mask in zip(errors, hidden, strict=True)]),
            "visible_mm": _mean([error[~mask] for error, mask in zip(errors, hidden, strict=True)]),
        }
    return result


def component_figures(learned: Learned, head: HeadModel, heads_m: Float[np.ndarray, "H V 3"]) -> dict[str, Any]:
    """Energy score of samples in the hidden part in mm, beside the posterior's, in both settings.

    The closed form is that of the linearised head; every head has a mask of its own.
    """
    result: dict[str, Any] = {"heads": len(heads_m)}
    model = learned.model
    # Nothing decoded and all of the spread: the posterior itself.
    silent = eqx.tree_at(
        lambda m: (m.decoder.layers[-1].weight, m.decoder.layers[-1].bias, m.gate.weight, m.gate.bias),
        model,
        replace_fn=jnp.zeros_like,
    )
    silent = eqx.tree_at(lambda m: m.gate.bias, silent, replace_fn=lambda bias: bias + 40.0)
    for setting in ("exact", "realistic"):
        noise = load_noise(head, setting)
        linear, errors = linearise(head, noise), error_fields(head, setting, held_back=True)
        result[setting] = {}
        for occluder in OCCLUDERS:
            hidden = occluder_masks(head, heads_m, occluder)
            if setting == "realistic":
                facing = [facing_camera(jnp.asarray(one, head.dtype), head.faces) for one in heads_m]
                hidden = hidden | ~np.stack([np.asarray(one) for one in facing])
            scores = []
            for number, (one, mask) in enumerate(zip(heads_m, hidden, strict=True)):
                views = make_views(linear, noise, mask[None])
                source = component_source(
                    ResidualSource(
                        draw=lambda count, key: jnp.zeros((count, head.n_vertices, 3)),
                        held_back_m=np.asarray(one[None], np.float32),
                        linear=linear,
                        views=views,
                        held_views=views,
                        errors_m=errors,
                        held_errors_m=errors,
                        template_m=head.template_m,
                        scale_m=1.0,
                        residual_scale_m=1e-3,
                        batch=1,
                    )
                )
                key = jax.random.fold_in(jax.random.key(5), number)
                scores.append([_score(one_model, source, key) for one_model in (model, silent)])
            mine, posterior = np.mean(scores, axis=0)
            result[setting][occluder] = {"energy_score_mm": float(mine), "posterior_mm": float(posterior)}
    return result


def occluder_masks(
    head: HeadModel, heads_m: Float[np.ndarray, "H V 3"], occluder: str
) -> Bool[np.ndarray, "H V"]:
    """What an occluder hides of each head; random ones by fixed keys."""
    place = OCCLUDERS.index(occluder)
    keys = [jax.random.fold_in(jax.random.fold_in(jax.random.key(0), index), place) for index in range(len(heads_m))]
    return np.stack(
        [occluded_vertices(np.asarray(one, np.float64), head, occluder, key=key)
         for one, key in zip(heads_m, keys, strict=True)]
    )  # fmt: skip


def _score(model: Any, source: ComponentSource, key: PRNGKeyArray) -> float:
    one = jax.tree.map(lambda leaf: leaf[0], source.validation()[0])
    return float(_jitted_loss(model, one, key))


@eqx.filter_jit
def _jitted_loss(model: Any, one: Any, key: PRNGKeyArray) -> Float[Array, ""]:
    return component_loss(model, one, samples=_SAMPLES, key=key)[0]


def _mean(parts: list[Any]) -> float:
    return float(np.mean(np.concatenate([np.asarray(part, np.float64) for part in parts])))
