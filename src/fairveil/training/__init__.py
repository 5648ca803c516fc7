"""One training loop, its batches, objectives, settings and networks."""

from typing import TYPE_CHECKING

from fairveil.base.lazy import lazy_exports

if TYPE_CHECKING:
    from fairveil.training.batches import Batch as Batch
    from fairveil.training.batches import Batches as Batches
    from fairveil.training.batches import Examples as Examples
    from fairveil.training.batches import Order as Order
    from fairveil.training.batches import shuffled as shuffled
    from fairveil.training.loop import Epoch as Epoch
    from fairveil.training.loop import GradientRule as GradientRule
    from fairveil.training.loop import History as History
    from fairveil.training.loop import Score as Score
    from fairveil.training.loop import evaluate as evaluate
    from fairveil.training.loop import train as train
    from fairveil.training.networks import NETWORKS as NETWORKS
    from fairveil.training.networks import build_network as build_network
    from fairveil.training.objectives import Augmentation as Augmentation
    from fairveil.training.objectives import Classification as Classification
    from fairveil.training.objectives import FromEpoch as FromEpoch
    from fairveil.training.objectives import Objective as Objective
    from fairveil.training.saved_networks import load_network as load_network
    from fairveil.training.saved_networks import save_network as save_network
    from fairveil.training.schedules import Training as Training
    from fairveil.training.schedules import learning_rate_at as learning_rate_at

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "batches": "Batch Batches Examples Order shuffled",
        "loop": "Epoch GradientRule History Score evaluate train",
        "networks": "NETWORKS build_network",
        "objectives": "Augmentation Classification FromEpoch Objective",
        "saved_networks": "load_network save_network",
        "schedules": "Training learning_rate_at",
    },
)
