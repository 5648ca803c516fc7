"""One training loop, its batches, objectives, settings and networks."""

from fairveil.training.batches import Batch, Batches, Examples, Order, shuffled
from fairveil.training.loop import Epoch, GradientRule, History, Score, evaluate, train
from fairveil.training.networks import NETWORKS, build_network
from fairveil.training.objectives import Augmentation, Classification, FromEpoch, Objective
from fairveil.training.schedules import Training, learning_rate_at

__all__ = [
    "NETWORKS",
    "Augmentation",
    "Batch",
    "Batches",
    "Classification",
    "Epoch",
    "Examples",
    "FromEpoch",
    "GradientRule",
    "History",
    "Objective",
    "Order",
    "Score",
    "Training",
    "build_network",
    "evaluate",
    "learning_rate_at",
    "shuffled",
    "train",
]
