"""What a model card says of a trained model: its errors on heads that it never saw, behind the three occluders."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ..diversify import Learned
from ..fit import load_noise
from ..head import HeadModel
from ..observe import occluded_vertices
from ._components import ComponentExamples, component_loss, component_source
from ._residual import ResidualSource, error_fields, linearise, make_views
from ._views import region_masks

OCCLUDERS = ("glasses", "face-mask", "random")
_SAMPLES, _VIEWS, _MASKS = 16, 120, 8


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
    """Energy score of 16 samples in the hidden part in mm, beside the posterior's, in both settings.

    Behind each occluder, paired over heads, with the half-width of the 95 % interval of the difference. The closed form
    is that of the linearised head; the masks are some of an occluder's on other heads.
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
        hidden, names = region_masks(head, heads_m, _VIEWS, front=setting == "realistic", key=jax.random.key(77))
        result[setting] = {}
        for occluder in OCCLUDERS:
            rows = [number for number, name in enumerate(names) if name == occluder][:_MASKS]
            views = make_views(linear, noise, hidden[rows])
            source = component_source(
                ResidualSource(
                    draw=lambda count, key: jnp.zeros((count, head.n_vertices, 3)),
                    held_back_m=np.asarray(heads_m, np.float32),
                    linear=linear,
                    views=views,
                    held_views=views,
                    errors_m=errors,
                    held_errors_m=errors,
                    template_m=head.template_m,
                    scale_m=1.0,
                    residual_scale_m=1e-3,
                    batch=min(16, len(heads_m)),
                )
            )
            mine, posterior = (np.concatenate([_scores(one, batch) for batch in source.validation()])
                               for one in (model, silent))  # fmt: skip
            off = mine - posterior
            result[setting][occluder] = {
                "energy_score_mm": float(mine.mean()),
                "posterior_mm": float(posterior.mean()),
                "difference_half_width_mm": float(1.96 * off.std() / len(off) ** 0.5),
            }
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


@eqx.filter_jit
def _scores(model: Any, batch: ComponentExamples) -> Float[Array, " B"]:
    keys = jax.random.split(jax.random.key(5), batch.mean.shape[0])
    return jax.lax.map(lambda at: component_loss(model, at[0], samples=_SAMPLES, key=at[1])[0], (batch, keys))


def _mean(parts: list[Any]) -> float:
    return float(np.mean(np.concatenate([np.asarray(part, np.float64) for part in parts])))
