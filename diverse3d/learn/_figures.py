"""What a model card says of a trained model: its errors on heads that it never saw, behind the three occluders."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ..diversify import ComponentResidual, MaskedModel
from ..fit import load_noise
from ..head import HeadModel
from ..observe import SETTINGS, STANDARD_REGIONS, occluded_vertices
from ._bank import make_basis
from ._components import HEADS_A_VIEW, ComponentExamples, ComponentSource, component_scores, component_views
from ._residual import error_fields, linearise
from ._views import region_masks

_SAMPLES, _VIEWS, _MASKS = 16, 240, 16


def masked_figures(learned: MaskedModel, head: HeadModel, heads_m: Float[np.ndarray, "H V 3"]) -> dict[str, Any]:
    """Mean vertex error in mm of whole heads, and hidden and visible behind each occluder, of the decoded mean."""

    @jax.jit
    def error_mm(head_m: Float[Array, "V 3"], visible: Bool[Array, " V"]) -> Float[Array, " V"]:
        latent = learned.encode(head_m, visible)
        return 1e3 * jnp.linalg.norm(learned.decode(latent.mean) - head_m, axis=1)

    heads = jnp.asarray(heads_m, head.dtype)
    seen = jnp.ones(head.n_vertices, bool)
    result: dict[str, Any] = {
        "heads": len(heads_m), "whole_mm": _mean([error_mm(one, seen) for one in heads]), "occluders": {}
    }  # fmt: skip
    for occluder in STANDARD_REGIONS:
        hidden = occluder_masks(head, heads_m, occluder)
        errors = [np.asarray(error_mm(one, jnp.asarray(~mask))) for one, mask in zip(heads, hidden, strict=True)]
        result["occluders"][occluder] = {
            "hidden_mm": _mean([error[mask] for error, mask in zip(errors, hidden, strict=True)]),
            "visible_mm": _mean([error[~mask] for error, mask in zip(errors, hidden, strict=True)]),
        }
    return result


def component_figures(
    learned: ComponentResidual, head: HeadModel, heads_m: Float[np.ndarray, "H V 3"]
) -> dict[str, Any]:
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
    noises = {setting: load_noise(head, setting) for setting in SETTINGS}
    linearised = {setting: linearise(head, noise) for setting, noise in noises.items()}
    basis = make_basis(linearised["exact"], heads_m)  # no part of it depends on the noise
    weights = basis.weights(jnp.asarray(heads_m, head.dtype))
    for setting, noise in noises.items():
        linear, errors = linearised[setting], np.asarray(error_fields(head, setting, held_back=True))
        hidden, names = region_masks(head, heads_m, _VIEWS, front=setting == "realistic", key=jax.random.key(77))
        result[setting] = {}
        for occluder in STANDARD_REGIONS:
            rows = [number for number, name in enumerate(names) if name == occluder][:_MASKS]
            views = component_views(linear, noise, basis, hidden[rows], errors)
            source = ComponentSource(weights, weights, views, views, batch=min(HEADS_A_VIEW, len(weights)))
            mine, posterior = (np.concatenate([_scores(one, batch) for batch in source.validation()])
                               for one in (model, silent))  # fmt: skip
            off = mine - posterior
            result[setting][occluder] = {
                "energy_score_mm": float(mine.mean()),
                "posterior_mm": float(posterior.mean()),
                "difference_half_width_mm": float(1.96 * off.std() / len(off) ** 0.5),
            }
    return result


def occluder_masks(head: HeadModel, heads_m: Float[np.ndarray, "H V 3"], occluder: str) -> Bool[np.ndarray, "H V"]:
    """What an occluder hides of each head; random ones by fixed keys."""
    place = STANDARD_REGIONS.index(occluder)
    keys = [jax.random.fold_in(jax.random.fold_in(jax.random.key(0), index), place) for index in range(len(heads_m))]
    return np.stack(
        [occluded_vertices(np.asarray(one, np.float64), head, occluder, key=key)
         for one, key in zip(heads_m, keys, strict=True)]
    )  # fmt: skip


@eqx.filter_jit
def _scores(model: Any, batch: ComponentExamples) -> Float[Array, " B"]:
    keys = jax.random.split(jax.random.key(5), len(batch.mean))

    def score(one: ComponentExamples, key: PRNGKeyArray) -> Float[Array, " H"]:
        return component_scores(model, one, samples=_SAMPLES, key=key)[0]

    return jax.vmap(score)(batch, keys).reshape(-1)


def _mean(parts: list[Any]) -> float:
    return float(np.mean(np.concatenate([np.asarray(part, np.float64) for part in parts])))
