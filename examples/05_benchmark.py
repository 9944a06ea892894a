"""A small table of methods on heads whose truth is known: python examples/05_benchmark.py OUT"""

import sys
from pathlib import Path

from diverse3d.experiments import Options, run

out = Path(sys.argv[1] if len(sys.argv) > 1 else "benchmark-out")

# Enough to see it work; figures worth quoting take 64 heads and three seeds.
options = Options(
    out=out,
    methods=("map", "posterior", "posterior-dpp", "posterior-cover"),
    occluders=("face-mask",),
    settings=("realistic",),
    heads=2,
    seeds=1,
)
found = run("table1", options)

for row in found.rows:
    if row["figure"] in ("asd_o", "cse_occluded", "energy_score"):
        print(f"{row['method']:>16} {row['figure']:<13} {row['mean']:6.2f} {row['unit']}")
for sentence in found.statements:
    print(sentence)
for alarm in found.alarms:
    print(f"alarm: {alarm['where']}: {alarm['sentence']}")
print(f"open {out / 'table1.html'}")
