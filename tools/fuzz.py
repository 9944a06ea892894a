"""Damaged files for every reader, in great number: each gives a sound result or one clear refusal, in bounded memory
and time.

    python -m tools.fuzz --cases 10000 --seed 0

Exit code 1, and the file kept in --keep, if a case gives anything else. The tests run a few hundred of the same.
"""

import argparse
import math
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

from odd_readers import SLOW  # noqa: E402
from readers import MEMORY_BOUND, READERS, SMALL_LIMITS, mutate, outcome, peak_growth, start_peak  # noqa: E402

TIME_BOUND = 10.0
"""Seconds of this process's time that reading one small file may take."""
_RARE = 0.05
"""Of a slow reader's cases."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=2500, help="cases in all, fewer for readers that take long")
    parser.add_argument("--seed", type=int, default=0, help="seed of the damage")
    parser.add_argument("--only", default="", help="readers whose name holds this")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"), help="folder for files that break a reader")
    options = parser.parse_args()
    os.environ.update(SMALL_LIMITS)
    chosen = [reader for name, reader in READERS.items() if options.only in name]
    weights = [_RARE if reader.name in SLOW else 1.0 for reader in chosen]
    failed = 0
    titles = ("cases", "valid", "refused", "other", "peak MiB", "seconds", "longest")
    print(f"{'reader':26}", *(f"{title:>8}" for title in titles))
    totals = {"valid": 0, "refused": 0, "other": 0}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for reader, weight in zip(chosen, weights, strict=True):
            each = math.ceil(options.cases * weight / sum(weights))
            counts, peak, longest, began = {"valid": 0, "refused": 0, "other": 0}, 0, 0.0, time.perf_counter()
            assert outcome(reader, folder, reader.sound()) == "valid", reader.name  # also fills caches
            for case in range(each):
                data = mutate(reader, random.Random(f"{options.seed}/{reader.name}/{case}"))
                before, start = start_peak(), time.process_time()
                try:
                    kind = outcome(reader, folder, data)
                except Exception:
                    kind = "other"
                    traceback.print_exc()
                grown = peak_growth(before)
                taken = time.process_time() - start
                if grown > MEMORY_BOUND or taken > TIME_BOUND:
                    kind = "other"
                    print(f"{reader.name}: case {case} took {grown / 2**20:.0f} MiB and {taken:.1f} s", flush=True)
                peak, longest = max(peak, grown), max(longest, taken)
                if kind == "other":
                    options.keep.mkdir(exist_ok=True)
                    (options.keep / f"{options.seed}-{case}-{reader.name}").write_bytes(data)
                counts[kind] += 1
            seconds = time.perf_counter() - began
            print(f"{reader.name:26} {each:8}", *(f"{count:8}" for count in counts.values()),
                  f"{peak / 2**20:8.1f} {seconds:8.1f} {longest:8.2f}", flush=True)  # fmt: skip
            failed += counts["other"]
            totals = {kind: totals[kind] + counts[kind] for kind in totals}
    print(f"{'all':26} {sum(totals.values()):8}", *(f"{count:8}" for count in totals.values()))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
