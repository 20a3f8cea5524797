"""Run the quickstart over several seeds, as shipped and with pairs of the image-blind scorer alone; print what alignment changed.

    python benchmarks/quickstart_effect.py --seeds 0 1 2

Every difference is paired over the 600 held-out pictures, with its 95 % interval.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from sightline.run import run as carry_out

VARIANTS = {
    "as shipped": [],
    "taste only (image-blind)": ["make.pairs.weights={taste: 1.0}", "make.pairs.tie_break={}"],
}
SHOWN = ("CHAIR_i", "CHAIR_s", "coverage", "length_ratio", "accuracy")


def rows(results: dict[str, object]) -> dict[str, str]:
    found = {}
    for benchmark in results["benchmarks"]:  # type: ignore[attr-defined]
        for metric in benchmark["metrics"]:
            if metric["metric"] in SHOWN:
                base, aligned, difference = (metric[column] for column in ("base", "aligned", "difference"))
                interval = f"{difference['value']:+.1f} [{difference['low']:+.1f}, {difference['high']:+.1f}]"
                found[metric["metric"]] = f"{base['value']:.1f} → {aligned['value']:.1f} ({interval})"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/effect"))
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    options = parser.parse_args()
    print(f"| pairs by | seed | pairs | {' | '.join(SHOWN)} |\n|{'---|' * (3 + len(SHOWN))}")
    for variant in options.variants:
        for seed in options.seeds:
            folder = options.out / f"{variant.split(' (')[0].replace(' ', '-')}-{seed}"
            run = carry_out("recipes/quickstart.yaml", folder, [f"seed={seed}", *VARIANTS[variant]])
            results = json.loads((run.folder / "results.json").read_text())
            found = rows(results)
            cells = " | ".join(found.get(name, "–") for name in SHOWN)
            print(f"| {variant} | {seed} | {results['steps']['pairs']['rows']} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
