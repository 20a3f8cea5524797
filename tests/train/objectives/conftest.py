"""Two pairs' log-probabilities, for arithmetic by hand."""

from torch import Tensor, float64, tensor

from sightline.train.objectives import Logprobs


def logprobs(chosen: list[float], rejected: list[float]) -> Logprobs:
    def column(values: list[float]) -> Tensor:
        return tensor(values, dtype=float64)

    counts = {"chosen": tensor([4, 5]), "rejected": tensor([2, 10])}
    return Logprobs({"chosen": column(chosen), "rejected": column(rejected)}, counts)


REFERENCE = logprobs([-3.0, -9.0], [-5.0, -2.0])
