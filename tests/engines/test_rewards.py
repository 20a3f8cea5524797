import pytest

from sightline.engines.armorm import ArmoRM
from sightline.engines.image_reward import ImageReward
from sightline.engines.weights import locate


def test_pictures_are_scored_in_order_whatever_the_batches(pictures):
    from sightline.engines.image_reward_model import ImageRewardModel

    prompts = ["a red cup in the kitchen", "a blue bird in the park", "a green tree in the park", "a red car", "a pink gift"]
    ours = ImageReward(kind="image_reward", model="miniature/image-reward", batch_size=2).load().score(prompts, pictures)
    model = ImageRewardModel.from_folder(locate("miniature/image-reward"))
    assert ours == pytest.approx(
        [model.score([prompt], [picture])[0] for prompt, picture in zip(prompts, pictures, strict=True)], abs=1e-4
    )


def test_an_answers_score_is_made_of_its_objectives_and_their_gates():
    import torch

    scorer = ArmoRM(kind="armorm", model="miniature/answer-reward", batch_size=2).load()
    talks = [
        ("Describe the picture.", f"The picture shows {what}.") for what in ("a red cup", "a cup, a tree and a blue car", "it")
    ]
    for found, talk in zip(scorer.score(talks), talks, strict=True):
        names = scorer.model.objectives
        rewards = torch.tensor([found.numbers[name] for name in names])
        gates = torch.tensor([found.numbers[f"gate {name}"] for name in names])
        assert found.score == pytest.approx((gates * (rewards @ scorer.model.reward_transform_matrix)).sum().item(), abs=1e-4)
        assert found.score == pytest.approx(scorer.score([talk])[0].score, abs=1e-4)


@pytest.mark.parametrize(("engine", "role"), [(ImageReward, "image_scorer"), (ArmoRM, "text_scorer")])
def test_each_reward_has_its_role(engine, role):
    assert engine.roles == {role}
