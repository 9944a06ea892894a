"""Settings of stage 2."""

import equinox as eqx


class DiversifyConfig(eqx.Module):
    """How completions are made; defaults are the paper's where it gives them (papers/004 §2.1)."""

    k: float = eqx.field(static=True, default=0.5)
    """Sharpness of similarity, in units of the median distance."""
    n_sigma: float = eqx.field(static=True, default=3.0)
    """How unlikely a sample may be before its quality falls, in standard deviations of ‖z‖²."""
    literal_quality: bool = eqx.field(static=True, default=False)
    """Read the quality threshold literally, n_σ√d, as the paper prints it."""
    pool: int | None = eqx.field(static=True, default=None)
    """Samples that a selection chooses from (at least twice the number asked for); None as the method has it."""
    contraction: float | None = eqx.field(static=True, default=None)
    """What samples' differences from the posterior mean are multiplied by, before any selection: below 1 draws them
    together; None as the method has it."""
    hold: float | None = eqx.field(static=True, default=None)
    """How firmly the hybrid's samples are held together where visible; None as the method has it. The noise `exact` was
    enlarged to serve the hidden part, so the visible part is known better; a photo's is the fit's own, unless its noise
    is `photo`. 0 leaves samples as the closed form has them, 1 keeps half of a difference where data and prior say
    equally much of it."""
    refine: int = eqx.field(static=True, default=0)
    """Steps of Adam by which hybrid-dpp pushes its selected latents farther apart by the DPP loss; 0 leaves them. On
    validation heads 30 steps raise ASD-O by half, but the closest sample's error too, so none are the default."""
    refine_rate: float = eqx.field(static=True, default=0.01)
    """Adam's learning rate there."""
    visible_weight: float = eqx.field(static=True, default=1000.0)
    """λ1 of Algorithm 2, on the mean visible L1 distance in metres."""
    photometric_weight: float = eqx.field(static=True, default=500.0)
    """λ2 of Algorithm 2, on the mean squared difference of colours over the picture of a photo's face, robustly, on a
    tone scale from 0 to 1; 0 leaves pixels out."""
    dpp_weight: float = eqx.field(static=True, default=0.025)
    """λ3 of Algorithm 2."""
    steps: int = eqx.field(static=True, default=300)
    """Iterations of Algorithm 2."""
    learning_rate: float = eqx.field(static=True, default=0.05)
    """Learning rate of Algorithm 2."""
    sgd: bool = eqx.field(static=True, default=False)
    """Plain gradient descent, as the paper has it, and not Adam (it hardly moves latents of unit size in 300 steps)."""
    tolerance: float = eqx.field(static=True, default=0.0)
    """Algorithm 2 stops early once latents and loss change by less than this, relatively."""
    start_spread: float = eqx.field(static=True, default=0.5)
    """Standard deviation of the starting coefficients around the fit."""
    visible_tolerance_mm: float = eqx.field(static=True, default=3.0)
    """RMS distance from the visible part beyond which a sample is repaired by the kriging correction, and said so."""

    def pool_size(self, n: int) -> int:
        """How many samples the pool for `n` heads has."""
        assert self.pool is not None, "the method searches no pool"
        return max(self.pool, 2 * n)

    @property
    def scale(self) -> float:
        """`contraction`, once the method has settled it."""
        assert self.contraction is not None, "the method has not settled its settings"
        return self.contraction
