"""Damaged files for every reader, in great number: each gives a sound result or one clear refusal, in bounded memory.

    python -m tools.fuzz_readers --cases 2500 --seed 0

Exit code 1, and the file kept in --keep, if a case gives anything else. The tests run a few hundred of the same.
"""

import argparse
import os
import random
import sys
import tempfile
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
os.environ.setdefault("JAX_PLATFORMS", "cpu")

from readers import MEMORY_BOUND, READERS, SMALL_LIMITS, mutate, outcome, peak_growth, start_peak  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=2500, help="cases in all")
    parser.add_argument("--seed", type=int, default=0, help="seed of the damage")
    parser.add_argument("--only", default="", help="readers whose name holds this")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"), help="folder for files that break a reader")
    options = parser.parse_args()
    os.environ.update(SMALL_LIMITS)
    chosen = [reader for name, reader in READERS.items() if options.only in name]
    each, failed = -(-options.cases // len(chosen)), 0
    print(f"{'reader':18} {'cases':>6} {'valid':>6} {'refused':>8} {'other':>6} {'peak MiB':>9} {'seconds':>8}")
    totals = {"valid": 0, "refused": 0, "other": 0}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for reader in chosen:
            counts, peak, began = {"valid": 0, "refused": 0, "other": 0}, 0, time.perf_counter()
            assert outcome(reader, folder, reader.sound()) == "valid", reader.name  # also fills caches
            for case in range(each):
                data = mutate(reader, random.Random(f"{options.seed}/{reader.name}/{case}"))
                before = start_peak()
                try:
                    kind = outcome(reader, folder, data)
                except Exception:
                    kind = "other"
                    traceback.print_exc()
                grown = peak_growth(before)
                peak, kind = max(peak, grown), "other" if grown > MEMORY_BOUND else kind
                if kind == "other":
                    options.keep.mkdir(exist_ok=True)
                    (options.keep / f"{options.seed}-{case}-{reader.name}").write_bytes(data)
                counts[kind] += 1
            seconds = time.perf_counter() - began
            print(f"{reader.name:18} {each:6} " + f"{counts['valid']:6} {counts['refused']:8} {counts['other']:6} "
                  f"{peak / 2**20:9.1f} {seconds:8.1f}", flush=True)  # fmt: skip
            failed += counts["other"]
            totals = {kind: totals[kind] + counts[kind] for kind in totals}
    print(f"{'all':18} {sum(totals.values()):6} {totals['valid']:6} {totals['refused']:8} {totals['other']:6}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
