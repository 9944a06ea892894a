"""A raw scan in the head's topology: surface, pose, statistical registration, relaxation, verdict."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import trimesh
from jaxtyping import Bool, Float, UInt8
from scipy.spatial import cKDTree

from .. import files
from .._errors import InputError
from ..files import Mesh
from ..fit import mean_head
from ..head import HeadModel
from ..surface import Portrait, host_normals
from . import _icp
from ._cloud import Cloud, pieces_of
from ._pose import Pose, find_pose, given_pose, other_faces, places68
from ._relax import relax
from ._settle import settle
from ._solve import Linear, Rows
from ._surface import ScanSurface
from ._texture import coloured
from ._verdict import Figures, Word, judge

UNITS_M = {"m": 1.0, "dm": 0.1, "cm": 0.01, "mm": 0.001, "inch": 0.0254}
"""Units of scans, in metres."""

_UNIT_WITHIN = 1.5
"""Factor up to which faces differ in size from the mean head's, children's among them."""
_DENSITY_M2 = 1.0e6
"""Points of the scan a square metre of its surface."""
_REACH_M = 0.22
_LINK_M = 0.006
_FEWEST_POINTS = 50
_MARK_SIGMA_M = 0.006
_GIVEN_SIGMA_M = 0.003
_SECOND_START_RAD = 0.12
_HAIRY = {"scalp": 0.25, "neck": 0.5, "left_ear": 0.5, "right_ear": 0.5}
"""How much parts count where hair, a collar or a cap may stand off the skin."""
_ACCEPTED = 4.0
_LEAST_POINTS = 0.5
"""Points that make a vertex visible, each counted by how near it is to it."""
_LEAST_REACH_M = 1.0e-3
_SLIDING = 9.0
"""Neighbours slide together, so that they tell less than as many independent errors of what each may slide by."""

_BENT = 2.5
"""What sliding over a bent surface counts for along the normal, in its own deviations."""


class Registration(NamedTuple):
    """A scan in the head's topology."""

    vertices_m: Float[np.ndarray, "V 3"]
    """The registered head in the scan's frame, metres; a guess where not visible."""
    visible: Bool[np.ndarray, " V"]
    """Vertices with a partner in the scan."""
    normals: Float[np.ndarray, "V 3"]
    """Unit normals there."""
    along_m: Float[np.ndarray, " V"]
    """Noise along the normal, a standard deviation."""
    across_m: Float[np.ndarray, " V"]
    """The same along the surface: a scan's geometry says where the skin is, much less which of its points is where."""
    residual_m: Float[np.ndarray, " V"]
    """How far the scan lies above the registered surface, NaN where not visible."""
    partner: Float[np.ndarray, "V 3"]
    """The scan's point that each visible vertex was compared with, in the file's own coordinates."""
    colours: UInt8[np.ndarray, "V 3"] | None
    """The scan's colours at visible vertices, the head's own elsewhere; None where it has none."""
    landmarks: Float[np.ndarray, "68 3"]
    """iBUG's points as found or given, in the file's own coordinates."""
    unit: str
    """Name of the file's unit, or 'unknown'."""
    unit_m: float
    """Metres a unit of the file."""
    verdict: Word
    """Registered, doubtful or refused."""
    reasons: tuple[str, ...]
    """What speaks against it."""
    notes: tuple[str, ...]
    """What a user should know of how the file was read."""
    figures: Figures
    """What the verdict rests on."""


def register(
    scan: str | Path | trimesh.Trimesh | Mesh,
    head: HeadModel,
    *,
    landmarks: Float[np.ndarray, "68 3"] | None = None,
    unit: str | None = None,
    source: str | None = None,
) -> Registration:
    """Register a raw scan: any topology or none, any pose, one face.

    `landmarks` are iBUG's points in the scan's own coordinates, NaN where not known; without them the scan is shown to
    the face detector from all sides. `unit` (m, dm, cm, mm, inch) is recognised by the face's size if not given. After
    pose and unit all coefficients and the head's smooth residual are registered point to plane, then what no head
    follows is taken up by a smooth displacement along the normals. `source` is what messages call the scan; its file's
    name if not given. Raises `InputError` where no face is found or the
    verdict is refused, with the likeliest cause.
    """
    own, mesh = _read(scan)
    source = source or own
    notes: list[str] = []
    path = Path(scan) if isinstance(scan, str | Path) else None
    surface = ScanSurface(coloured(mesh, notes, path), source)
    whole = surface.cloud(4.0e4 / surface.extent**2)
    if landmarks is None:
        pose = find_pose(whole, head, source)
    else:
        pose = given_pose(np.asarray(landmarks, np.float64) - surface.middle, whole, head, source)
    name, unit_m = _unit(pose.scale_m, unit, source, notes)
    frame = _rigid(pose, unit_m)
    place = unit_m * surface.points @ frame.turn.T + frame.shift_m
    near = np.linalg.norm(place - _centre(head), axis=1) < _REACH_M
    if landmarks is None and (others := other_faces(whole, frame, unit_m, head)):
        raise InputError(
            f"{source} shows {1 + others} faces; cut one out, or name the one that is meant with --landmarks."
        )
    if (surface.used & near).sum() < _FEWEST_POINTS:
        raise InputError(
            f"{source} has hardly any points where its face should be; are the landmarks in the scan's own coordinates?"
        )
    cloud = surface.cloud(_DENSITY_M2 * unit_m**2, near).moved(frame.turn, frame.shift_m, unit_m)
    cloud = _about_face(cloud, unit_m * pose.landmarks @ frame.turn.T + frame.shift_m)
    if pose.inside:
        notes.append("Its normals point inwards; they were turned round. Should the face be mirrored, mirror the scan.")
        cloud = Cloud(cloud.points, -cloud.normals, cloud.colours)
    return _registered(head, surface, cloud, pose, frame, (name, unit_m), landmarks is not None, notes, source)


def _registered(
    head: HeadModel, surface: ScanSurface, cloud: Cloud, pose: Pose, frame: Pose, unit: tuple[str, float],
    given: bool, notes: list[str], source: str,
) -> Registration:  # fmt: skip
    faces = np.asarray(head.faces)
    weight, outer = _weights(head), _outer(head)
    linear, match = Linear(head), _icp.Matcher(cloud, faces, weight > 0)
    name, unit_m = unit
    marks_m = unit_m * pose.landmarks @ frame.turn.T + frame.shift_m
    sigma = np.full(68, _GIVEN_SIGMA_M if given else _MARK_SIGMA_M)
    if not given:  # the outline is wherever the picture ends the face
        marks_m = np.where(np.arange(68)[:, None] < 17, np.nan, marks_m)
    marks = _icp.landmark_rows(head, marks_m, sigma)
    point = _icp.coarse(linear, match, marks, weight, linear.start())
    turned = linear.start()
    turned[-6:-3] = _SECOND_START_RAD / 0.1 * np.array([1.0, -1.0, 0.5])
    second = _icp.coarse(linear, match, marks._replace(root=0.2 * marks.root), weight, turned)
    apart = np.linalg.norm(linear.vertices_m(point) - linear.vertices_m(second), axis=1)
    found = _icp.fine(linear, match, marks, weight, point, faces)
    noise = cloud_noise(cloud)
    vertices = relax(match, found.vertices_m, faces, found.sigma_m, noise)
    settled = settle(match, vertices, host_normals(vertices, faces), moving=found.misfit_m > 0)
    rows = match.of_points(vertices, _icp.REACH_M)
    spread = _icp.spread(rows.off_m[rows.root > 0])
    count, off = _at_vertices(rows, max(_ACCEPTED * spread, _LEAST_REACH_M), head.n_vertices)
    pairs = match.of_vertices(vertices, _REACH_M)  # the nearest point, however far: of visible vertices, near enough
    visible = (count > _LEAST_POINTS) & settled.held
    # A vertex alone among rejected ones met something by chance.
    visible &= _beside(visible, faces) >= 2
    seen_face = visible & outer
    marked = np.isfinite(marks_m).all(axis=1)
    fitted = places68(head, vertices)
    figures = Figures(
        points=len(cloud.points),
        residual_mm=1e3 * spread,
        noise_mm=1e3 * noise,
        explained_percent=_explained(match, vertices, spread),
        face_percent=100.0 * float(seen_face.sum() / max(outer.sum(), 1)),
        visible_vertices=int(visible.sum()),
        landmarks_mm=1e3 * float(np.median(np.linalg.norm(fitted - marks_m, axis=1)[marked])) if marked.any() else 0.0,
        surprise=found.step.surprise,
        starts_mm=1e3 * float(np.median(apart[seen_face])) if seen_face.any() else 0.0,
        misfit_mm=1e3 * found.misfit_m,
        certainty=pose.certainty,
    )
    verdict, reasons = judge(figures)
    if verdict == "refused":
        raise InputError(
            f"{source} can't be registered: {'; '.join(reasons)}. Look whether it is one head's face and of this unit "
            f"({name}); --landmarks and --unit say what can't be found."
        )
    vertices = np.where(visible[:, None], settled.vertices_m, vertices)
    world = (vertices - frame.shift_m) @ frame.turn + unit_m * surface.middle
    normals = host_normals(vertices, faces) @ frame.turn
    sliding = linear.spread_across_m(found.step, host_normals(vertices, faces))
    along = np.sqrt(spread**2 * settled.variance + (0.25 * noise) ** 2 + ((_BENT * sliding) ** 2 * settled.bend) ** 2)
    across = np.maximum(_SLIDING * sliding, along)
    colours = None
    if cloud.colours is not None:
        own = np.full((head.n_vertices, 3), 200, np.uint8) if head.colours is None else np.asarray(head.colours)
        colours = np.where(visible[:, None], cloud.colours[pairs.nearest], own).astype(np.uint8)
    partner = (pairs.target_m - frame.shift_m) @ frame.turn / unit_m + surface.middle
    return Registration(
        vertices_m=world,
        visible=visible,
        normals=normals,
        along_m=along,
        across_m=across,
        residual_m=np.where(visible, off, np.nan),
        partner=np.where(visible[:, None], partner, np.nan),
        colours=colours,
        landmarks=pose.landmarks + surface.middle,
        unit=name,
        unit_m=unit_m,
        verdict=verdict,
        reasons=tuple(reasons),
        notes=tuple(notes),
        figures=figures,
    )


def _read(scan: Any) -> tuple[str, Mesh]:
    if isinstance(scan, str | Path):
        path = Path(scan)
        if path.suffix.lower() not in files.MESH_SUFFIXES:
            raise InputError(
                f"{path} can't be read as a scan by its name: give a {', '.join(files.MESH_SUFFIXES)} file."
            )
        if not path.is_file():
            raise InputError(f"There is no scan {path}.")
        return path.name, files.read_mesh(path)
    if isinstance(scan, trimesh.Trimesh):
        return "scan", Mesh(np.asarray(scan.vertices), np.asarray(scan.faces, np.int32))
    return "scan", scan


def _unit(scale_m: float, asked: str | None, source: str, notes: list[str]) -> tuple[str, float]:
    """The unit's name and metres: as asked for, or the one in which the face has a face's size."""
    if asked is not None:
        if asked not in UNITS_M:
            raise InputError(f"There is no unit '{asked}'; give one of {', '.join(UNITS_M)}.")
        if not 1 / 2.0 < scale_m / UNITS_M[asked] < 2.0:
            raise InputError(
                f"{source}: in {asked} its face would be {UNITS_M[asked] / scale_m:.3g} times the size of people's."
            )
        return asked, UNITS_M[asked]
    name = min(UNITS_M, key=lambda one: abs(np.log(scale_m / UNITS_M[one])))
    if 1 / _UNIT_WITHIN < scale_m / UNITS_M[name] < _UNIT_WITHIN:
        return name, UNITS_M[name]
    notes.append(
        f"Its unit is none that is known: a face's size makes it {1e3 * scale_m:.3g} mm, so lengths are only as "
        "right as that; give --unit where it is known."
    )
    return "unknown", scale_m


def _rigid(pose: Pose, unit_m: float) -> Pose:
    """The pose at the unit's scale: the same turn, the landmarks' middle kept in place."""
    middle = np.nanmean(pose.landmarks[17:] if np.isfinite(pose.landmarks[17:]).any() else pose.landmarks, axis=0)
    shift = pose.scale_m * pose.turn @ middle + pose.shift_m - unit_m * pose.turn @ middle
    return pose._replace(shift_m=shift, scale_m=unit_m)


def _centre(head: HeadModel) -> np.ndarray:
    """The middle of the head."""
    return np.asarray(head.template_m, np.float64).mean(axis=0)


def _at_vertices(rows: Rows, reach_m: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    """How many points within reach speak for each vertex, and how far above it they lie in the mean."""
    near = rows.root * (np.abs(rows.off_m) <= reach_m)
    share = (rows.shares * near[:, None]).ravel()
    number = np.bincount(rows.corners.ravel(), share, count)
    total = np.bincount(rows.corners.ravel(), share * np.repeat(rows.off_m, 3), count)
    return number, total / number.clip(1e-9)


def _beside(chosen: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """How many triangles' other corners about each vertex are chosen."""
    count = np.zeros(len(chosen), int)
    for i in range(3):
        np.add.at(count, faces[:, i], chosen[faces[:, (i + 1) % 3]].astype(int))
    return count


def _outer(head: HeadModel) -> np.ndarray:
    """Skin of the face that a scanner around it could see: no mouth cavity, no eye sockets, no eyeballs."""
    vertices, faces = np.asarray(mean_head(head), np.float64), np.asarray(head.faces)
    face = np.zeros(head.n_vertices, bool)
    face[np.asarray(head.regions.get("face", np.arange(head.n_vertices)))] = True
    face &= _weights(head) > 0
    shown = np.zeros(head.n_vertices, bool)
    centre = tuple(float(x) for x in vertices[face].mean(axis=0))
    for yaw in (-60.0, 0.0, 60.0):
        hits = Portrait(yaw=yaw, size_px=256, centre_m=(centre[0], centre[1], centre[2])).look(vertices, faces)
        shown[faces[hits.face[hits.face >= 0]]] = True
    return shown & face


def _weights(head: HeadModel) -> np.ndarray:
    """How much each vertex counts: eyeballs, which turn and shine, not at all."""
    weight = np.ones(head.n_vertices)
    for name, share in _HAIRY.items():
        weight[np.asarray(head.regions.get(name, np.zeros(0, int)))] = share
    for name in ("left_eyeball", "right_eyeball"):
        weight[np.asarray(head.regions.get(name, np.zeros(0, int)))] = 0.0
    return weight


def _about_face(cloud: Cloud, marks_m: np.ndarray) -> Cloud:
    """The surface that hangs together with the face: no stand, background or crumbs."""
    if len(cloud.points) < 10:
        return cloud
    tree = cKDTree(cloud.points)
    distance, index = tree.query(cloud.points, 8, distance_upper_bound=_LINK_M, workers=-1)
    label = pieces_of(distance, index, _LINK_M)
    known = marks_m[np.isfinite(marks_m).all(axis=1)]
    at = tree.query(known)[1]
    size = np.bincount(label)
    # What holds a landmark, or is a good part of the face's own size (a nose cut off by holes is one).
    kept = np.isin(label, np.unique(label[at])) | (size[label] > 0.02 * len(label))
    return cloud.chosen(kept)


def cloud_noise(cloud: Cloud) -> float:
    """How far points lie from the plane of their neighbours, a standard deviation in metres."""
    step = max(len(cloud.points) // 4000, 1)
    chosen = cloud.points[::step]
    index = cKDTree(cloud.points).query(chosen, 10, workers=-1)[1]
    near = cloud.points[index]
    centre = near.mean(axis=1)
    value = np.linalg.eigvalsh(np.einsum("pka,pkb->pab", near - centre[:, None], near - centre[:, None]))[:, 0]
    return float(np.sqrt(np.median(value.clip(0)) / 7.0))


def _explained(match: _icp.Matcher, vertices: np.ndarray, spread: float) -> float:
    """Share of the points about the face, in percent, that lie on the surface."""
    rows = match.of_points(vertices, 0.03)
    front = rows.root > 0
    return 100.0 * float((np.abs(rows.off_m[front]) < max(5 * spread, 1.5e-3)).mean()) if front.any() else 0.0
