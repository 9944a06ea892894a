"""Make everything that depends on the embedded head anew, in order; what is up to date is left.

    python -m tools.remake [--people DIR] [--from STEP] [--until STEP] [--list]

A step runs where what it reads has other bytes than when it last ran through, so a chain that was stopped goes on
where it stood; training inside a step resumes from its own checkpoints. What ran, and how long, is kept in
build/remake.json. `--people` (see tools/calibrate_head.py) measures the calibration anew; without it the table in the
repository stands.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
STATE = ROOT / "build" / "remake.json"
ASSETS = "diverse3d/assets"
HEAD = f"{ASSETS}/head.safetensors"
DIVERSE3D = [sys.executable, "-c", "import sys; from diverse3d.cli import main; sys.exit(main())"]


def tool(name: str, *options: str) -> list[str]:
    """Command that runs a tool."""
    return [sys.executable, "-m", f"tools.{name}", *options]


class Step(NamedTuple):
    """One link of the chain."""

    name: str
    commands: list[list[str]]
    reads: list[str]
    writes: list[str]


def chain(people: Path | None) -> list[Step]:
    """The steps, each after what it needs."""
    built = "build/remake"
    head = tool("build_head")
    built_head = [HEAD, f"{ASSETS}/population.safetensors"]
    code = [
        "diverse3d/head/makehuman",
        "diverse3d/head/_bases.py",
        "diverse3d/head/_palette.py",
        "diverse3d/head/_residual.py",
        "diverse3d/head/population.py",
    ]
    table = f"{ASSETS}/head-calibration.json"
    landmarks = f"{ASSETS}/head-landmarks.json"
    noise = f"{ASSETS}/noise.safetensors"

    def train(model: str, steps: int, *options: str) -> list[str]:
        asked = ["--model", model, "--steps", str(steps), "--out", f"{built}/{model}", *options]
        return [*DIVERSE3D, "train", *asked]

    def card(kind: str, model: str) -> list[str]:
        weights = f"{built}/{model}/weights.safetensors"
        return tool("write_cards", kind, weights, f"{ASSETS}/{kind}.safetensors", "--hours", "measured")

    calibration = tool("calibrate_head", str(people))
    steps = [Step("calibration", [calibration], ["tools/calibrate_head.py", "tools/_scans.py"], [table])]
    steps = steps if people else []
    return [
        *steps,
        Step("landmarks", [head, tool("embed_landmarks")], [table, *code], [landmarks]),
        Step("head", [head], [table, landmarks, *code], built_head),
        Step("albedo", [tool("build_albedo")], [HEAD], [f"{ASSETS}/albedo.safetensors"]),
        Step("noise", [tool("learn_noise")], [HEAD, "tools/learn_noise.py"], [noise]),
        Step(
            "landmark-noise",
            [tool("learn_landmarks")],
            [HEAD, f"{ASSETS}/albedo.safetensors", "tools/learn_landmarks.py"],
            [f"{ASSETS}/landmark-noise.safetensors"],
        ),
        Step("masked", [train("masked", 6000), card("masked", "masked")], built_head, [f"{ASSETS}/masked.safetensors"]),
        Step(
            "residual",
            [train("components", 8000, "--batch", "256", "--views", "512"), card("residual", "components")],
            [*built_head, noise],
            [f"{ASSETS}/residual.safetensors"],
        ),
        Step(
            "segment",
            [tool("train_segment", "--work", f"{built}/segment", "--out", f"{ASSETS}/segment.safetensors")],
            [*built_head, f"{ASSETS}/albedo.safetensors", "tools/train_segment.py"],
            [f"{ASSETS}/segment.safetensors"],
        ),
        Step(
            "hashes",
            [tool("hash_assets")],
            [HEAD, noise, *[f"{ASSETS}/{name}.safetensors" for name in ("albedo", "masked", "residual", "segment")]],
            [f"{ASSETS}/SHA256SUMS"],
        ),
        Step(
            "pictures",
            [tool(name) for name in ("make_head_pictures", "draw_reconstructions")],
            [*built_head, f"{ASSETS}/masked.safetensors"],
            ["docs/heads.png", "docs/reconstructions.png"],
        ),
        Step(
            "baseline",
            [
                [sys.executable, "-m", "benchmarks", suite, "--out", f"{built}/{suite}", "--update-baseline"]
                for suite in ("quality", "fit", "photos", "histogram")
            ],
            [HEAD, noise, *[f"{ASSETS}/{name}.safetensors" for name in ("masked", "residual", "segment")]],
            ["benchmarks/baseline.json"],
        ),
    ]


def digest(names: list[str]) -> str:
    """One hash of files and of folders' Python files."""
    total = hashlib.sha256()
    for name in names:
        path = ROOT / name
        files = sorted(path.glob("*.py")) if path.is_dir() else [path]
        for file in files:
            total.update(f"{file.relative_to(ROOT)}\n".encode())
            total.update(hashlib.sha256(file.read_bytes()).digest() if file.is_file() else b"missing")
    return total.hexdigest()


def main() -> int:
    """Run what is not up to date."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=Path, help="folder of scan statistics, to measure the calibration anew")
    parser.add_argument("--from", dest="first", help="run this step and what follows, whatever is up to date")
    parser.add_argument("--until", dest="last", help="stop after this step")
    parser.add_argument("--list", action="store_true", help="say what would run, and how long it took the last time")
    options = parser.parse_args()
    steps = chain(options.people)
    names = [step.name for step in steps]
    for name in (options.first, options.last):
        if name is not None and name not in names:
            print(f"There is no step '{name}'; the steps are {', '.join(names)}.", file=sys.stderr)
            return 2
    state = json.loads(STATE.read_text(encoding="utf-8")) if STATE.is_file() else {}
    forced = False
    for step in steps:
        forced |= step.name == options.first
        known = state.get(step.name, {})
        stale = forced or known.get("read") != digest(step.reads) or known.get("written") != digest(step.writes)
        before = f"{known['seconds']:.0f} s" if "seconds" in known else "not yet timed"
        print(f"{step.name}: {'runs' if stale else 'up to date'} ({before})", flush=True)
        if stale and not options.list:
            begin = time.monotonic()
            for command in step.commands:
                seconds = time.monotonic() - begin
                run = [f"{seconds / 3600:.2f}" if word == "measured" else word for word in command]
                if "train" in run and (ROOT / run[run.index("--out") + 1] / "checkpoints").is_dir():
                    run.append("--resume")
                if subprocess.run(run, cwd=ROOT, check=False).returncode != 0:
                    print(f"{step.name} stopped at: {' '.join(run)}", file=sys.stderr)
                    return 1
            state[step.name] = {
                "read": digest(step.reads),
                "written": digest(step.writes),
                "seconds": round(time.monotonic() - begin, 1),
            }
            STATE.parent.mkdir(exist_ok=True)
            STATE.write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
        if step.name == options.last:
            return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
