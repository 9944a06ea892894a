"""What stage 1 gives back, and what it needs of a head."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .._arrays import on_device
from ..head import HeadModel, HeadParameters
from ..surface import WeakPerspective
from ._align import rotation_vector
from ._costs import LandmarkHead
from ._pixels import PixelHead
from ._state import Unknowns, joint_rotations


class FitReport(eqx.Module):
    """What stage 1 left over."""

    landmark_rms_px: Float[Array, ""]
    """RMS distance of the visible 68 landmarks, in pixels (zero for a mesh)."""
    landmark_rms_interocular: Float[Array, ""]
    """The same as a share of the distance between the outer eye corners."""
    visible_rms_mm: Float[Array, ""]
    """RMS distance of visible vertices from a partial mesh's, in millimetres (zero for a photo)."""
    steps: Int[Array, ""]
    """Steps taken to meet landmarks or vertices, rigid stage included, the rounds over pixels not."""
    result: Int[Array, ""]
    """Result code of the stage that meets them (`diverse3d.RESULT_TEXT`)."""
    residual_rms_mm: Float[Array, ""]
    """RMS size a visible vertex of what the head's smooth residual adds, in millimetres."""
    residual_share: Float[Array, ""]
    """Its share of how far visible vertices lie from the mean head, in squares: of 1, how much the head's own
    components don't say."""


class Appearance(eqx.Module):
    """Albedo and light of a fitted photo."""

    albedo: Float[Array, " A"]
    """Coefficients of `HeadModel.albedo`; unit variance a priori."""
    light: Float[Array, "9 3"]
    """Spherical harmonics a colour channel, as `diverse3d.light.shade` takes them, in the posed head's frame."""


class Fit(eqx.Module):
    """The single best head for an observation, and what the completions are held to: a `PhotoFit` or a `MeshFit`.

    "Head frame" is the head's own; x_world = turn · x_head + shift. For a photo "world" is the posed head as the
    camera sees it (metres, y up, z towards the camera); for a mesh it is the input's frame.
    """

    unknowns: Unknowns
    """Coefficients and joints; the rigid unknowns are folded into `turn` and `shift` and are zero here."""
    vertices_m: Float[Array, "V 3"]
    """Fitted vertices, head frame."""
    held_m: Float[Array, "V 3"]
    """What completions are held to where visible, head frame: a mesh's own vertices, or a photo's fitted ones."""
    visible: Bool[Array, " V"]
    """Vertices that are seen: given (mesh); or in front by the z-test and outside the mask (photo)."""
    turn: Float[Array, "3 3"]
    """Rotation from head to world."""
    shift_m: Float[Array, "3"]
    """Translation from head to world."""
    report: FitReport
    """Residuals, steps and result code."""

    def to_world(self, vertices_m: Float[Array, "*n V 3"]) -> Float[Array, "*n V 3"]:
        """Vertices in the world frame."""
        return _moved(vertices_m, self.turn, self.shift_m)

    def parameters(self, head: HeadModel) -> HeadParameters:
        """FLAME-style parameters with head(parameters) = the fitted vertices in the world frame."""
        rotation = rotation_vector(np.asarray(self.turn, np.float64))
        return _parameters(self, head, on_device(rotation, head.dtype))


class PictureEvidence(eqx.Module):
    """What a photo's landmarks say of a head near its fit, linearised there, with the picture's shift free and the
    camera's scale that of the fit; its last three rows hold the mean place of what is seen.

    Of independent errors of unit variance, `left` is what the fit leaves and `jacobian` how they change.
    """

    left: Float[Array, " E"]
    """Whitened detected less fitted positions."""
    jacobian: Float[Array, "E U"]
    """A unit of coefficients, joints, rotation and translation, in the order of the closed form's vector."""
    count: Float[Array, ""]
    """How many of the errors count: two a visible landmark, less those that the shift takes up."""


class PhotoFit(Fit):
    """The fit of a photo."""

    camera: WeakPerspective
    """From world to the photo's pixels."""
    landmarks68_px: Float[Array, "68 2"]
    """The fitted 68 landmarks in pixels."""
    evidence: PictureEvidence
    """What the picture says of the head, for the closed form."""
    appearance: Appearance | None = None
    """Skin and light; None for a head without albedo."""


class MeshFit(Fit):
    """The fit of a partial mesh."""


@eqx.filter_jit
def _parameters(fit: Fit, head: HeadModel, rotation: Float[Array, "3"]) -> HeadParameters:
    coefficients = fit.unknowns.z + head.prior_mean
    root = head.joints(coefficients)[0]
    # FLAME turns about the root joint, not about the origin.
    return HeadParameters(
        coefficients=coefficients,
        pose=joint_rotations(head, fit.unknowns.joints).at[0].set(rotation),
        translation_m=fit.shift_m + fit.turn @ root - root,
    )


@jax.jit
def _moved(points_m: Array, turn: Float[Array, "3 3"], shift_m: Float[Array, "3"]) -> Array:
    return points_m @ turn.T + jnp.broadcast_to(shift_m, points_m.shape)


class FitProblem(eqx.Module):
    """What depends on the head alone, prepared once for many fits."""

    head: HeadModel
    """The head that is fitted."""
    landmarks: LandmarkHead | None
    """Its landmark-carrying vertices; None where the head has no landmarks."""
    smoothness: Float[Array, "K K"]
    """Factor of the smoothness term."""
    pixels: PixelHead | None = None
    """Its face, to compare with pixels; None where the head has no albedo."""
