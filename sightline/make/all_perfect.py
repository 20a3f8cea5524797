"""Fine-tuning on faultless answers: an early variant of mllm-dpo's rejection sampling (Li et al., 2024)."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from sightline.make.pairs import AnswerPolicy, Standing, row_to_learn
from sightline.rows import Dropped, Instruction, Pair, Response


class AllPerfect(AnswerPolicy):
    """Every answer that is at the top of all scales, a row each, to be learned by itself (objective sft)."""

    top: dict[str, float] = Field(min_length=1)
    """What an answer has to reach, by annotator or by annotator and aspect: {judge.helpfulness: 4, judge.correctness: 4}."""

    def measures(self) -> list[str]:
        return sorted(self.top)

    def standing(self, response: Response, scores: dict[str, float]) -> Standing:
        return Standing(response, scores, sum(scores.values()))

    def settle(self, instruction: Instruction, standing: list[Standing], seed: int) -> Iterator[Pair | Dropped]:
        for one in standing:
            below = [measure for measure, score in one.scores.items() if score < self.top[measure]]
            if below:
                detail = ", ".join(f"{measure} {one.scores[measure]:g}" for measure in below)
                yield Dropped(key=instruction.key, reason="answer is not perfect", row_id=one.response.id, detail=detail)
            else:
                yield row_to_learn(self.kind, instruction, one)
