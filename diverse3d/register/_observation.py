"""A registration as an observation: a partial mesh that knows its own noise."""

import hashlib

import numpy as np

from ..observe import MeshObservation, PartialMesh, SurfaceNoise, check_place
from ._register import Registration


class ScanObservation(MeshObservation):
    """A raw scan, registered."""

    registration: Registration
    """How it lies, what was found, and how well."""


def observed(registration: Registration, source: str) -> ScanObservation:
    """The observation of a registered scan, named `source`.

    Raises `InputError` where it lies too far from the origin to be stored.
    """
    visible = registration.visible
    check_place(registration.vertices_m[visible], source)
    kept = np.where(visible[:, None], registration.vertices_m, 0.0)
    noise = SurfaceNoise(registration.normals, registration.along_m, registration.across_m)
    digest = hashlib.sha256(kept.tobytes() + visible.tobytes())
    for part in (noise.normals, noise.along_m, noise.across_m):
        digest.update(part.tobytes())
    return ScanObservation(
        mesh=PartialMesh(vertices_m=kept, visible=visible, unit_m=1.0, noise=noise),
        source=source,
        sha256=digest.hexdigest(),
        registration=registration,
    )
