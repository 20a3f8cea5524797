"""Write prompts for the miniature painter: python -m sightline.miniature.prompts 24 > recipes/prompts/quickstart.jsonl"""

from __future__ import annotations

import json
import sys

import numpy as np

from sightline.miniature.world import TOPICS, prompt, sample


def prompts(per_topic: int, seed: int = 0) -> list[dict[str, str]]:
    """Distinct prompts with their topics, the same number for each of the ten."""
    rng = np.random.default_rng(seed)
    wanted: dict[str, str] = {}
    for topic in TOPICS:
        before = len(wanted)
        while len(wanted) < before + per_topic:
            wanted.setdefault(prompt(sample(rng, topic)), topic)
    return [{"text": text, "topic": topic} for text, topic in wanted.items()]


if __name__ == "__main__":
    for entry in prompts(int(sys.argv[1]) if len(sys.argv) > 1 else 24):
        print(json.dumps(entry))
