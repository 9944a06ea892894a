"""Several photos of one person: the joint linear system against dense algebra, and what a second photo tells."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import draw_nothing
from PIL import Image

import diverse3d as d3
from diverse3d.cli import main
from diverse3d.fit._several import RIGID_ROOT, SHARED, Picture, changes, evidence_of, joint
from diverse3d.observe import observe_photo, together

IDENTITY, OWN = np.arange(4), np.arange(4, 7)
SIZE, ROWS = 7, 40


def pictures(rng, count, unseen=0.3):
    made = []
    for _ in range(count):
        seen = rng.uniform(size=ROWS) > unseen
        left, change = rng.normal(size=ROWS) * seen, rng.normal(size=(ROWS, SIZE + 9)) * seen[:, None]
        made.append(Picture(rng.normal(size=SIZE), left, change, seen))
    return made


def dense(shots):
    """Precision and goal of all unknowns, the first's head first, with the errors' variances written out."""
    first, others = shots[0], shots[1:]
    total = SIZE + 6 + 2 + len(others) * (len(OWN) + 9)
    rows, offs, prior, at = [], [], np.full(total, RIGID_ROOT**2), np.zeros(total)
    prior[:SIZE], at[:SIZE] = 1.0, first.point
    one = np.zeros((ROWS, total))
    one[:, : SIZE + 6], one[:, SIZE + 6 : SIZE + 8] = first.change[:, : SIZE + 6], first.change[:, -2:]
    rows.append(one), offs.append(first.left)
    begin = SIZE + 8
    for other in others:
        one = np.zeros((ROWS, total))
        one[:, IDENTITY] = other.change[:, IDENTITY]
        one[:, begin : begin + 3], one[:, begin + 3 : begin + 12] = other.change[:, OWN], other.change[:, SIZE:]
        prior[begin : begin + 3], at[begin : begin + 3], prior[begin + 9] = 1.0, other.point[OWN], 1.0
        rows.append(one)
        offs.append(other.left + other.change[:, IDENTITY] @ (other.point - first.point)[IDENTITY])
        begin += 12
    a, b = np.concatenate(rows), np.concatenate(offs)
    weight = np.zeros((len(shots), ROWS))
    for i in range(ROWS):
        others = sum(shot.seen[i] for shot in shots[1:])
        for k, shot in enumerate(shots):
            alone = 1 / (1 + SHARED * (others - 1)) if others else 0.0
            beside = (1 - SHARED) / (1 + SHARED * others)
            weight[k, i] = shot.seen[i] and (1.0 if k == 0 else beside if shots[0].seen[i] else alone)
    weight = np.diag(weight.reshape(-1))
    return a.T @ weight @ a + np.diag(prior), a.T @ weight @ b - prior * at, prior


@pytest.mark.parametrize("count", [1, 2, 4])
def test_photos_together_are_one_linear_system(rng, count):
    shots = pictures(rng, count)
    told, (normal, goal, prior) = joint(shots, IDENTITY), dense(shots)
    head = SIZE + 6
    marginal = np.linalg.inv(np.linalg.inv(normal)[:head, :head])
    np.testing.assert_allclose(told.precision + np.diag(prior[:head]), marginal, rtol=1e-8, atol=1e-8)
    moved = changes(told, shots, IDENTITY, np.zeros((3, head)))
    best = np.linalg.solve(normal, goal)
    np.testing.assert_allclose(moved[0], np.r_[best[:head], 0.0, best[head : head + 2]], rtol=1e-6, atol=1e-8)
    for k, (shot, change) in enumerate(zip(shots[1:], moved[1:], strict=True)):
        mine = best[head + 2 + 12 * k : head + 14 + 12 * k]
        np.testing.assert_allclose(np.r_[change[OWN], change[SIZE:]], mine, rtol=1e-6, atol=1e-8)
        # All photos end with one identity.
        np.testing.assert_allclose((shot.point + change[:SIZE])[IDENTITY], (shots[0].point + moved[0][:SIZE])[IDENTITY])


def test_what_is_wrong_alike_does_not_average_away(rng):
    (shot,) = pictures(rng, 1)
    still = shot._replace(change=np.where(np.isin(np.arange(SIZE + 9), IDENTITY), shot.change, 0.0))
    once = joint([still], IDENTITY).precision[:4, :4]
    for count in (2, 3, 10):
        more = joint([still] * count, IDENTITY).precision[:4, :4]
        np.testing.assert_allclose(more, count / (1 + (count - 1) * SHARED) * once, rtol=1e-9)


def test_the_evidence_is_the_same_in_as_many_rows(rng):
    told = joint(pictures(rng, 3), IDENTITY)
    held = rng.normal(size=(3, SIZE + 6))
    made = evidence_of(told, held, ROWS, jnp.dtype(jnp.float64))
    jacobian, left = np.asarray(made.jacobian), np.asarray(made.left)
    assert jacobian.shape == (ROWS + 3, SIZE + 6)
    np.testing.assert_allclose(jacobian[-3:], held)
    np.testing.assert_allclose(jacobian[:-3].T @ jacobian[:-3], told.precision, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(jacobian[:-3].T @ left[:-3], told.pull, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(left @ left, told.left, rtol=1e-8)


@pytest.mark.usefixtures("single_precision")
def test_a_second_photo_shows_what_the_first_hides():
    head = d3.load_head()
    problem = d3.prepare(head)
    masked = observe_photo(d3.DEMO_PHOTO, occlude="face-mask", key=jax.random.key(1))
    bare = observe_photo(d3.DEMO_PHOTO)
    both = together(masked, [bare])
    assert both.sha256 != masked.sha256
    alone, told = d3.fit(masked, problem), d3.fit(both, problem)
    assert alone.evidence.left.shape == told.evidence.left.shape and told.evidence.count > 1.2 * alone.evidence.count
    chin = np.asarray(head.regions["lips"])

    def spread(seen, fitted):
        made = d3.complete(seen, head=problem, n=24, method="posterior", fitted=fitted, key=jax.random.key(2))
        return float(np.asarray(made.vertices)[:, chin].std(0).mean())

    assert spread(both, told) < 0.9 * spread(masked, alone)
    # Who is completed looks as in the first photo.
    assert np.abs(np.asarray(told.landmarks68_px - alone.landmarks68_px)).mean() < 8.0
    with pytest.raises(d3.InputError, match="no photo 2 among 2"):
        d3.observe_photos([d3.DEMO_PHOTO, d3.DEMO_PHOTO], target=2)
    with pytest.raises(d3.InputError, match="1 masks were given for 2"):
        d3.observe_photos([d3.DEMO_PHOTO, d3.DEMO_PHOTO], masks=[None])


@pytest.mark.usefixtures("single_precision")
def test_the_command_takes_several_photos_and_replays_them(tmp_path, capsys, monkeypatch):
    draw_nothing(monkeypatch)
    small, more = tmp_path / "a.png", tmp_path / "b.png"
    picture = Image.open(d3.DEMO_PHOTO)
    picture.save(small), picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(more)
    out = tmp_path / "out"
    plain = ["-n", "2", "--method", "posterior", "--no-report", "--occlude", "none", "--quiet"]
    assert main(["complete", str(small), str(more), "--out", str(out), *plain]) == 0
    assert {"input.png", "input-2.png", "mask-2.png"} <= {path.name for path in out.iterdir()}
    record = json.loads((out / "run.json").read_text())
    assert [one["name"] for one in record["other_photos"]] == ["b.png"]
    assert main(["replay", str(out), "--quiet"]) == 0
    mesh = tmp_path / "head.obj"
    mesh.write_text("v 0 0 0\n")
    for inputs in ((small, mesh), (mesh, small), (small, tmp_path / "none.png"), (small,) * 17):
        assert main(["complete", *map(str, inputs), "--out", str(tmp_path / "other"), *plain]) == 2
    said = capsys.readouterr().err
    assert "one at a time" in said and "none.png" in said and "16 are the most" in said and "Traceback" not in said
