"""FLAME's 14 regions on this mesh: from MakeHuman's painted masks where there is one, else by geometry."""

import numpy as np

from ...surface import grown
from ._mesh import METRES_PER_DECIMETRE, HeadMesh
from ._source import Source

_COUNT = 30_000  # more than the base mesh has vertices


def build_regions(source: Source, mesh: HeadMesh, template: np.ndarray) -> dict[str, np.ndarray]:
    """Sorted vertex indices of each region; left is the person's (x > 0). `template` [V, 3] in metres."""
    painted = {name: _painted(source, mesh, name) for name in ("face", "lips", "ears", "inside-mouth")}
    x, y, z = template.T
    left_eye, right_eye = (_flags(len(template), eye) for eye in (mesh.left_eye, mesh.right_eye))
    eyeballs = left_eye | right_eye
    centre = template[mesh.left_eye].mean(axis=0)
    aside, above = np.abs(x) - centre[0], y - centre[1]

    mouth = grown(painted["inside-mouth"] | painted["lips"], mesh.faces, 1)
    # The lids, and the pockets behind them, are all that lies around the eyeballs: the mask leaves them out.
    radius = np.linalg.norm(template[mesh.left_eye] - centre, axis=1).max()
    lids = np.linalg.norm(np.stack([aside, above, z - centre[2]], axis=1), axis=1) < 1.1 * radius
    face = (painted["face"] | mouth | lids) & ~eyeballs
    ears = grown(painted["ears"], mesh.faces, 1) & ~face & ~eyeballs
    front = face & ~painted["inside-mouth"]

    boundary = grown(_flags(len(template), mesh.boundary), mesh.faces, 1)
    chin = template[front & (np.abs(x) < 0.01), 1].min()
    neck = ~face & ~ears & ~eyeballs & (y < chin + 0.55 * np.clip(0.05 - z, 0.0, 0.12))
    scalp = ~face & ~ears & ~eyeballs & ~neck

    socket = front & (lids | (z > 0.013) & ((aside / 0.0235) ** 2 + (above / 0.0185) ** 2 < 1))
    brow = front & (np.abs(aside) < 0.027) & (above > 0) & (above < 0.032)
    bridge = front & (np.abs(x) < 0.02) & (above > -0.008) & (above < 0.028)
    nose = front & _moved(source, mesh, "nose", ("nose-volume-incr", "nose-scale-depth-incr"), 0.18)
    forehead = front & (above > 0.022)
    lips = grown(painted["lips"], mesh.faces, 2) | (grown(painted["lips"], mesh.faces, 3) & painted["inside-mouth"])
    regions = {
        "face": face,
        "neck": neck,
        "scalp": scalp,
        "boundary": boundary,
        "right_eyeball": right_eye,
        "left_eyeball": left_eye,
        "right_ear": ears & (x < 0),
        "left_ear": ears & (x > 0),
        "forehead": forehead,
        "eye_region": socket | brow | bridge,
        "nose": nose,
        "lips": lips,
        "right_eye_region": socket & (x < 0),
        "left_eye_region": socket & (x > 0),
    }
    return {name: np.flatnonzero(_symmetric(name, regions, mesh)) for name in regions}


def _painted(source: Source, mesh: HeadMesh, name: str) -> np.ndarray:
    flags = mesh.cut(source.mask(name)) > 0.5
    eyes = np.concatenate([mesh.left_eye, mesh.right_eye])
    flags[eyes] = False
    return flags | flags[mesh.mirror]


def _moved(source: Source, mesh: HeadMesh, folder: str, targets: tuple[str, ...], share: float) -> np.ndarray:
    """Vertices that one of the targets moves by at least a share of its largest offset."""
    moved = np.zeros(len(mesh.source_index), bool)
    for name in targets:
        size = np.linalg.norm(mesh.cut(source.target(folder, name, _COUNT)), axis=1) * METRES_PER_DECIMETRE
        moved |= size > share * size.max()
    return moved


def _flags(count: int, index: np.ndarray) -> np.ndarray:
    flags = np.zeros(count, bool)
    flags[index] = True
    return flags


def _symmetric(name: str, regions: dict[str, np.ndarray], mesh: HeadMesh) -> np.ndarray:
    side, _, rest = name.partition("_")
    twin = {"left": f"right_{rest}", "right": f"left_{rest}"}.get(side, name)
    return regions[name] | regions[twin][mesh.mirror]
