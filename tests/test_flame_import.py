"""Importing FLAME: official layouts in, a sound head file out; what is wrong is named, what is unusual is said."""

import hashlib
import pickle
import struct

import jax.numpy as jnp
import numpy as np
import pytest
from flame_files import Python2, object_npy, official_pickle, shared_flame, small_flame
from helpers import tiny_arrays

from diverse3d._errors import InputError
from diverse3d.cli import main
from diverse3d.head import head_metadata, load_head
from diverse3d.head.flame import import_flame, write_head
from diverse3d.show._colour import linear_from_srgb

TINY = tiny_arrays()
FACES, VERTICES = len(TINY["faces"]), len(TINY["template"])
STATIC = TINY["landmarks68_face"].astype(np.uint32), TINY["landmarks68_barycentric"].astype(np.float64)


@pytest.fixture
def model(rng):
    return small_flame(rng)


@pytest.fixture
def file(model, tmp_path):
    path = tmp_path / "female_model.pkl"
    path.write_bytes(official_pickle(model))
    return path


@pytest.fixture
def masks(tmp_path):
    path = tmp_path / "FLAME_masks.pkl"
    names = ("face", "nose", "left_eyeball", "right_eyeball", "neck")
    path.write_bytes(Python2().dumps({name: TINY[f"region/{name}/vertices"].astype(np.int64) for name in names}))
    return path


def pickled(path, table):
    path.write_bytes(Python2().dumps(table))
    return path


def test_command_line_import(file, masks, tmp_path, capsys):
    out = tmp_path / "head.safetensors"
    static = pickled(tmp_path / "static68.pkl", {"lmk_face_idx": STATIC[0], "lmk_b_coords": STATIC[1]})
    arguments = ["head", "import", str(file), "--out", str(out), "--masks", str(masks), "--landmarks", str(static)]
    assert main([*arguments, "--identity", "24"]) == 0
    printed = capsys.readouterr()
    assert "The masks lack scalp, boundary" in printed.err
    for text in (
        "FLAME (female)",
        "24 identity, 13 expression",
        "104",
        "pose correctives 36",
        "nose 11 vertices, 16 comp",
    ):
        assert text in " ".join(printed.out.split())
    metadata = head_metadata(out)
    assert metadata["source_sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    for path in (file, masks, static):
        assert f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}" in metadata["provenance"]
    assert "17 components after ten identity and ten expression" in metadata["local_models"]
    assert metadata["unit_of_source"] == "metres" and "unit variance" in metadata["prior"]
    assert main([*arguments, "--quiet"]) == 2 and "exists" in capsys.readouterr().err
    first = out.read_bytes()
    assert main([*arguments, "--quiet", "--identity", "24", "--force"]) == 0
    assert (out.read_bytes(), capsys.readouterr().out) == (first, "")
    head = load_head(out)
    assert sorted(head.regions) == ["face", "left_eyeball", "neck", "nose", "right_eyeball"]
    assert "neck" not in head.local_models and head.joint_std_rad is not None
    np.testing.assert_array_equal(head.landmarks68.barycentric, STATIC[1])


def test_the_same_model_in_other_wrappings(model, file, tmp_path):
    """Python 3 pickles, npz and safetensors of the same arrays give the same head."""
    from safetensors.numpy import save_file

    expected = import_flame(file, identity=24).arrays
    for name in ("a.pkl", "b.npz", "c.safetensors"):
        path = tmp_path / name
        if name == "a.pkl":
            path.write_bytes(pickle.dumps(model, 4))
        elif name == "b.npz":
            np.savez_compressed(path, **model)
        else:
            save_file({key: np.ascontiguousarray(array) for key, array in model.items()}, path)
        arrays = import_flame(path, identity=24).arrays
        assert set(arrays) == set(expected)
        for key in expected:
            np.testing.assert_array_equal(arrays[key], expected[key], err_msg=key)


def test_four_hundred_components_split_as_flames(model, tmp_path):
    directions = np.zeros((VERTICES, 3, 400))
    directions.reshape(VERTICES * 3, 400)[np.arange(300), np.arange(300)] = 0.01
    path = tmp_path / "model.pkl"
    path.write_bytes(official_pickle(model | {"shapedirs": directions}))
    imported = import_flame(path)
    assert (len(imported.arrays["identity_basis"]), len(imported.arrays["expression_basis"])) == (300, 100)
    assert any("100 of 100 expression components are zero" in note for note in imported.notes)


@pytest.mark.parametrize(("unit", "factor"), [("millimetres", 1000), ("centimetres", 100), ("decimetres", 10)])
def test_units_are_recognised_and_said(unit, factor, model, tmp_path):
    path = tmp_path / "model.pkl"
    scaled = {key: model[key] * factor for key in ("v_template", "shapedirs", "posedirs")}
    path.write_bytes(official_pickle(model | scaled))
    imported = import_flame(path)
    assert any(f"unit is {unit}" in note for note in imported.notes) and imported.metadata["unit_of_source"] == unit
    np.testing.assert_allclose(imported.arrays["template"], model["v_template"], rtol=1e-14)
    np.testing.assert_allclose(imported.arrays["pose_basis"], model["posedirs"].transpose(2, 0, 1), rtol=1e-14)


def with_value(name, value, index=0):
    def change(model):
        array = model[name].copy()
        array.flat[index] = value
        return {name: array}

    return change


WRONG = {
    "no template": (lambda m: {"v_template": None}, "array 'v_template' is missing"),
    "flat template": (lambda m: {"v_template": m["v_template"].reshape(-1)}, r"'v_template' has shape \[312\]"),
    "no head's size": (lambda m: {"v_template": m["v_template"] * 1e5}, "the size of a head in no unit"),
    "not finite": (with_value("v_template", np.nan), "'v_template' holds values that are not finite"),
    "components not finite": (with_value("shapedirs", np.inf), "'shapedirs' holds values that are not finite"),
    "no components": (lambda m: {"shapedirs": None}, "array 'shapedirs' is missing"),
    "components turned": (
        lambda m: {"shapedirs": m["shapedirs"].transpose(2, 0, 1)},
        r"'shapedirs' has shape \[37, 104",
    ),
    "unscaled components": (lambda m: {"shapedirs": m["shapedirs"] * 100}, "scaled by their standard deviations"),
    "same components": (
        lambda m: {"shapedirs": np.concatenate([m["shapedirs"], m["shapedirs"]], 2)},
        "are the same direction",
    ),
    "no triangles": (lambda m: {"f": None}, "array 'faces' is missing"),
    "corner beyond": (with_value("f", 104), "'f' must hold indices from 0 to 103"),
    "corner twice": (lambda m: {"f": np.repeat(m["f"][:, :1], 3, 1)}, "triangles with a corner twice"),
    "inside out": (lambda m: {"f": m["f"][:, ::-1]}, "face inwards"),
    "broken corners": (lambda m: {"f": m["f"] + 0.5}, "no whole numbers"),
    "regressor rows": (lambda m: {"J_regressor": m["J_regressor"] * 1.01}, "rows of array 'J_regressor' must sum to 1"),
    "regressor shape": (lambda m: {"J_regressor": m["J_regressor"][:4]}, r"'J_regressor' has shape \[4, 104\]"),
    "weight rows": (lambda m: {"weights": m["weights"] * 0.9}, "rows of array 'weights' must sum to 1"),
    "negative weight": (
        lambda m: {"weights": m["weights"] + np.eye(5)[0] * 0.5 - np.eye(5)[1] * 0.5},
        "negative weight",
    ),
    "correctives": (lambda m: {"posedirs": m["posedirs"][:, :, :35]}, r"'posedirs' has shape \[104, 3, 35\]"),
    "tree with a loop": (with_value("kintree_table", 4, 2), "'kintree_table' is no tree"),
    "tree without root": (with_value("kintree_table", 1), "'kintree_table' is no tree"),
    "joints out of order": (with_value("kintree_table", 3, 6), "0 to 4 in order are needed"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named(name, model, tmp_path):
    change, match = WRONG[name]
    path = tmp_path / "model.npz"
    np.savez(path, **{key: value for key, value in (model | change(model)).items() if value is not None})
    with pytest.raises(InputError, match=match) as caught:
        import_flame(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_unusual_is_said(model, tmp_path):
    path = tmp_path / "model.npz"
    tilted = model["shapedirs"].copy()
    tilted[:, :, 1] += 0.3 * tilted[:, :, 0]
    np.savez(path, v_template=model["v_template"], f=model["f"], shapedirs=tilted)
    said = " ".join(import_flame(path).notes)
    for text in (
        "104 vertices, not FLAME's 5023",
        "not orthogonal",
        "no weights, J_regressor, posedirs, kintree_table",
    ):
        assert text in said
    head = load_head(write(import_flame(path), tmp_path))
    assert head.joint_std_rad is None


def write(imported, tmp_path):
    path = tmp_path / "out.safetensors"
    write_head(imported, path)
    return path


def embedding(face, weights, prefix="lmk_face_idx", suffix="lmk_b_coords"):
    return {prefix: face, suffix: weights}


def test_landmark_embeddings(file, tmp_path):
    """FLAME's static 51 with its dynamic jaw line, DECA's 68, and mediapipe's."""
    face, weights = STATIC
    inner = pickled(tmp_path / "flame_static_embedding.pkl", embedding(face[17:], weights[17:]))
    angles = np.stack([face[:17], *[np.roll(face[:17], k) for k in range(1, 79)]])
    dynamic = tmp_path / "flame_dynamic_embedding.npy"
    dynamic.write_bytes(object_npy(embedding(angles, np.stack([weights[:17]] * 79))))
    arrays = import_flame(file, landmarks=[inner, dynamic]).arrays
    np.testing.assert_array_equal(arrays["landmarks68_face"], face)
    np.testing.assert_array_equal(arrays["landmarks68_barycentric"], weights)
    assert arrays["landmarks_contour_face"].shape == (79, 17)
    assert arrays["landmarks_contour_barycentric"].shape == (79, 17, 3)

    deca = tmp_path / "landmark_embedding.npy"
    more = np.concatenate([face, face[:2]])[None], np.concatenate([weights, weights[:2]])[None]
    deca.write_bytes(object_npy(embedding(*more, "full_lmk_faces_idx", "full_lmk_bary_coords")))
    imported = import_flame(file, landmarks=[deca])
    np.testing.assert_array_equal(imported.arrays["landmarks68_face"], face)
    assert any("the first 68 of 70" in note for note in imported.notes)

    dense = tmp_path / "mediapipe_landmark_embedding.npz"
    index = np.r_[TINY["landmarks_dense_index"], 470, 473]
    points = [
        np.concatenate([TINY[f"landmarks_dense_{k}"], TINY[f"landmarks_dense_{k}"][:2]])
        for k in ("face", "barycentric")
    ]
    np.savez(dense, **embedding(*points), landmark_indices=index)
    imported = import_flame(file, landmarks=[dense])
    np.testing.assert_array_equal(imported.arrays["landmarks_dense_index"], index[:-2])
    assert any("can't be fitted to photos" in note for note in imported.notes)

    for content, match in (
        (embedding(face[17:], weights[17:]), "51 landmarks were given without the 17 of the jaw line"),
        (embedding(face[:40], weights[:40]), "holds 40 landmarks"),
        (embedding(face, weights[:40]), "three weights for each"),
        (embedding(face + np.uint32(FACES), weights), f"triangle indices from 0 to {FACES - 1}"),
        (embedding(face, weights * 1.1), "barycentric weights that sum to 1"),
        (embedding(angles[:, :9], np.stack([weights[:9]] * 79)), r"\[angles, 17\] is needed"),
        ({"other": face}, "holds no landmarks"),
    ):
        with pytest.raises(InputError, match=match):
            import_flame(file, landmarks=[pickled(tmp_path / "wrong.pkl", content)])


def test_masks(file, tmp_path):
    for content, match in (
        ({"../nose": np.arange(3)}, "letters, digits and underscores"),
        ({"nose": np.array([0, VERTICES])}, f"vertex indices from 0 to {VERTICES - 1}"),
        ({"nose": np.array([0.0, 1.0])}, "vertex indices"),
        ({"nose": "text"}, "holds no regions"),
    ):
        with pytest.raises(InputError, match=match):
            import_flame(file, masks=pickled(tmp_path / "wrong.pkl", content))
    with pytest.raises(InputError, match="--masks names"):
        import_flame(file, data=tmp_path)


def test_local_models_are_what_the_higher_components_add(file, masks, model):
    """Without data a region's local covariance is that of the components after ten and ten."""
    arrays = import_flame(file, masks=masks, identity=24).arrays
    components = model["shapedirs"].transpose(2, 0, 1)
    rest = np.concatenate([components[10:24], components[34:]])
    region = arrays["region/face/vertices"]
    part = rest[:, region].reshape(len(rest), -1)
    local = arrays["region/face/basis"].astype(float) * arrays["region/face/scale"].astype(float)[:, None, None]
    local = local.reshape(len(local), -1)
    true, made = part.T @ part, local.T @ local
    assert np.linalg.norm(true - made) < 0.02 * np.linalg.norm(true)  # 99 % of the variance, in half precision
    np.testing.assert_allclose(arrays["region/face/mean"], 0, atol=1e-8)


def binary_ply(vertices):
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(vertices)}\n"
    header += "property float x\nproperty float y\nproperty float z\nelement face 1\n"
    header += "property list uchar int vertex_indices\nend_header\n"
    return header.encode() + vertices.astype("<f4").tobytes() + struct.pack("<B3i", 3, 0, 1, 2)


def test_local_models_from_registered_meshes(file, masks, model, rng, tmp_path):
    """CoMA's folders: meshes in millimetres, moved about; what is planted on the nose is found there."""
    nose = TINY["region/nose/vertices"]
    plant = np.zeros((VERTICES, 3))
    plant[nose] = rng.normal(0, 1, (len(nose), 3))
    plant *= 0.004 / np.abs(plant).max()
    strength = rng.normal(size=24)
    for number, amount in enumerate(strength):
        # Along the head's own first components, which are taken out, and the plant, which is not.
        mesh = model["v_template"] + model["shapedirs"][:, :, :5] @ rng.normal(size=5) + amount * plant
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        turn *= np.sign(np.linalg.det(turn))
        folder = tmp_path / "coma" / f"subject{number % 3}" / "bareteeth"
        folder.mkdir(parents=True, exist_ok=True)
        points = 1000 * (mesh @ turn.T + rng.normal(size=3))
        if number % 2:
            (folder / f"frame.{number:06d}.ply").write_bytes(binary_ply(points))
        else:
            lines = "".join(f"v {x:.9g} {y:.9g} {z:.9g}\n" for x, y, z in points)
            (folder / f"frame.{number:06d}.obj").write_text(lines + "f 1 2 3\n")
    imported = import_flame(file, masks=masks, data=tmp_path / "coma", identity=24)
    assert "24 registered meshes in coma" in imported.metadata["local_models"]
    # The face comes first and contains the nose: its first component is the plant.
    basis = imported.arrays["region/face/basis"].astype(float)[0].reshape(-1)
    expected = plant[TINY["region/face/vertices"]].reshape(-1)
    assert abs(basis @ expected) / np.linalg.norm(basis) / np.linalg.norm(expected) > 0.9

    for name, content, match in (
        ("a.ply", binary_ply(np.zeros((5, 3))), "has 5 vertices, the head 104"),
        ("a.ply", binary_ply(np.zeros((104, 3)))[:900], "too short for the 104 vertices that it declares"),
        (
            "a.ply",
            b"ply\nformat ascii 1.0\nelement vertex 99999999999\nproperty float x\nproperty float y\nproperty float z\nend_header\n0 0 0\n",
            "declares more vertices",
        ),
        ("a.ply", b"plynonsense", "does not start as a PLY file"),
        ("a.obj", b"v 1 2\n", "a vertex that is no row of numbers"),
        ("a.obj", b"v nan 0 0\n" * 104, "not finite"),
    ):
        folder = tmp_path / "wrong"
        folder.mkdir(exist_ok=True)
        for path in folder.iterdir():
            path.unlink()
        (folder / name).write_bytes(content)
        with pytest.raises(InputError, match=match):
            import_flame(file, masks=masks, data=folder)
    np.save(tmp_path / "wrong" / "a.npy", np.stack([model["v_template"]] * 3))
    (tmp_path / "wrong" / "a.obj").unlink()
    with pytest.raises(InputError, match="3 registered meshes are too few"):
        import_flame(file, masks=masks, data=tmp_path / "wrong")


def test_texture(file, model, rng, tmp_path):
    """Colours and albedo components at the vertices: blue, green, red in the file; v upwards."""
    places = rng.random((VERTICES, 2)) * 0.98 + 0.01
    mean, basis = rng.integers(0, 256, (8, 16, 3)).astype(float), rng.normal(0, 10, (8, 16, 3, 5))
    path = tmp_path / "FLAME_texture.npz"
    good = {"mean": mean, "tex_dir": basis, "vt": places, "ft": model["f"]}
    np.savez(path, **good)
    arrays = import_flame(file, texture=path).arrays
    row, column = ((1 - places[:, 1]) * 8).astype(int), (places[:, 0] * 16).astype(int)
    np.testing.assert_array_equal(arrays["colours"], mean[row, column, ::-1].astype(np.uint8))
    made = arrays["albedo_basis"].astype(float) * arrays["albedo_scale"][:, None, None]
    np.testing.assert_allclose(made, basis[row, column, ::-1].transpose(2, 0, 1) / 255, atol=1e-4)
    head = load_head(write(import_flame(file, texture=path), tmp_path))
    assert head.albedo is not None and head.albedo.n_components == 5
    # The mean in linear light is the picture's, at the vertices.
    np.testing.assert_allclose(
        head.albedo(jnp.zeros(5)), linear_from_srgb(mean[row, column, ::-1]).clip(1e-4), rtol=1e-5, atol=1e-7
    )
    for change, match in (
        ({"vt": None}, "holds no array 'vt'"),
        ({"mean": mean[0]}, "'mean' has shape"),
        ({"ft": model["f"][:5]}, "'ft' has shape"),
        ({"vt": places[:9]}, "'ft' must hold indices of 'vt'"),
        ({"vt": places * np.nan}, "'vt' holds values that are not finite"),
        ({"tex_dir": basis[:4]}, "'tex_dir' has shape"),
    ):
        np.savez(path, **{name: array for name, array in (good | change).items() if array is not None})
        with pytest.raises(InputError, match=match):
            import_flame(file, texture=path)


def test_the_real_geometry_is_imported(shared, tmp_path):
    """FLAME 2023 Open through an official-layout pickle: fourteen regions, 68 landmarks, twelve local models."""
    folder = shared / "flame"
    model = shared_flame(folder)
    model["shapedirs"] = np.concatenate([model["shapedirs"][:, :, :14], model["shapedirs"][:, :, 60:]], 2)
    file = tmp_path / "generic_model.pkl"
    file.write_bytes(official_pickle(model))
    imported = import_flame(file, masks=folder / "flame_masks.npz", landmarks=[folder / "landmarks68.npz"], identity=14)
    assert imported.notes == ()
    head = load_head(write(imported, tmp_path))
    assert head.name == "FLAME (generic)" and len(head.regions) == 14 and len(head.local_models) == 12
    assert (head.n_identity, head.n_expression) == (14, 4) and head.landmarks_dense is None


def test_a_model_file_that_carries_mediapipes_landmarks(shared, tmp_path):
    folder = shared / "flame"
    imported = import_flame(folder / "flame2023_60.npz", landmarks=[folder / "landmarks68.npz"])
    head = load_head(write(imported, tmp_path))
    assert head.landmarks_dense is not None and head.landmarks_dense.corners.shape == (105, 3)
    assert head.landmarks68 is not None and head.n_identity == 60
