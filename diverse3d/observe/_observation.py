"""What is known of one face: the first station of the data's way."""

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float, UInt8


class Photo(eqx.Module):
    """A photo, its landmarks and what hides them."""

    rgb: UInt8[np.ndarray, "H W 3"]
    """The picture as it was processed: upright, sRGB, occluder painted in."""
    hidden: Bool[np.ndarray, "H W"]
    """Pixels where something hides the face."""
    landmarks_px: Float[np.ndarray, "468 2"]
    """Mediapipe's 468 points, in pixels of `rgb` (x right, y down, pixel centres at +0.5)."""
    landmark_visible: Bool[np.ndarray, "468"]
    """Landmarks inside the picture and outside `hidden`; the others weigh nothing."""
    faces_found: int = eqx.field(static=True)
    """How many faces the picture shows."""
    hidden_probability: Float[np.ndarray, "H W"] | None = None
    """Where the mask was found in the photo itself: how likely each pixel of the head is hidden, by its own hair
    and clothes too; 0 beside it."""
    face_hidden: float | None = eqx.field(static=True, default=None)
    """Where the mask was found: what part of the face it hides, 0 to 1."""
    certainty: float | None = eqx.field(static=True, default=None)
    """How sure the found mask is: mean probability of the likelier answer over the face; None for a given mask."""
    landmark_certainty: float = eqx.field(static=True, default=1.0)
    """How sure the landmark network is that it saw a face at all, 0 to 1; it says nothing of single points."""
    boxes_px: Float[np.ndarray, "n 4"] | None = None
    """Left, top, right, bottom of all faces found, from left to right; None where they weren't looked for."""
    face: int = eqx.field(static=True, default=1)
    """Which of them this is, from 1."""
    face_chosen: bool = eqx.field(static=True, default=False)
    """Whether it was asked for; else it is the largest."""


class SurfaceNoise(eqx.Module):
    """How wrong a registered mesh's vertices are: along the surface's normal and along the surface."""

    normals: Float[np.ndarray, "V 3"]
    """Unit normals, in the mesh's own frame."""
    along_m: Float[np.ndarray, " V"]
    """Standard deviation in metres along the normal."""
    across_m: Float[np.ndarray, " V"]
    """The same of each coordinate along the surface."""


class PartialMesh(eqx.Module):
    """A mesh in the head's topology with some vertices missing."""

    vertices_m: Float[np.ndarray, "V 3"]
    """Vertices in metres in the input's own frame; zero where hidden. Double precision, since inputs lie anywhere."""
    visible: Bool[np.ndarray, " V"]
    """Vertices that are given."""
    unit_m: float = eqx.field(static=True)
    """Length of the file's unit in metres, as recognised."""
    noise: SurfaceNoise | None = None
    """How wrong they are, where that is known of this very mesh."""


class Observation(eqx.Module):
    """One occluded face: a `PhotoObservation` or a `MeshObservation`."""

    source: str = eqx.field(static=True)
    """Name of the input, for messages and records."""
    sha256: str = eqx.field(static=True)
    """Hash of what was read: the pixels and mask as processed, or the vertices and their visibility."""
    notes: tuple[str, ...] = eqx.field(static=True, default=(), kw_only=True)
    """What to know of how the input was read, one sentence each."""


MOST_PHOTOS = 16
"""How many photos of one person are taken together at most."""


class PhotoObservation(Observation):
    """A photo, as it was given."""

    photo: Photo
    """Its pixels, landmarks and what hides them."""
    others: tuple["PhotoObservation", ...] = ()
    """Further photos of the same person, whose expression and pose may differ."""


class MeshObservation(Observation):
    """A partial mesh, as it was given."""

    mesh: PartialMesh
    """Its vertices and which of them are visible."""
