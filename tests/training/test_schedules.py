import pytest
import torch
from pydantic import ValidationError

from fairveil.training.schedules import Training, learning_rate_at


def _torchs(schedule, epochs):
    rates = []
    for _ in range(epochs):
        rates.append(schedule.optimizer.param_groups[0]["lr"])
        schedule.optimizer.step()
        schedule.step()
    return rates


def _optimizer():
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)


def test_cosine_agrees_with_torch():
    ours = [learning_rate_at(epoch, Training(epochs=8)) for epoch in range(8)]
    assert ours == pytest.approx(_torchs(torch.optim.lr_scheduler.CosineAnnealingLR(_optimizer(), 8), 8))


def test_steps_agree_with_torch():
    ours = [learning_rate_at(epoch, Training(epochs=8, schedule="steps")) for epoch in range(8)]
    assert ours == pytest.approx(_torchs(torch.optim.lr_scheduler.MultiStepLR(_optimizer(), [3, 5, 7]), 8))


def test_warm_up_rises_in_proportion_and_joins_the_schedule():
    settings = Training(epochs=8, warmup=2, schedule="constant")
    assert [learning_rate_at(epoch, settings) for epoch in (0, 0.5, 1, 2, 7)] == pytest.approx(
        [0, 0.025, 0.05, 0.1, 0.1]
    )


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"epochs": 1, "warmup": 2}, {"milestones": (1.5,)}, {"momentum": 0}])
def test_settings_without_meaning_are_refused(wrong):
    with pytest.raises(ValidationError):
        Training(**wrong)
