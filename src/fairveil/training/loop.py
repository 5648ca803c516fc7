"""The one training loop of all chapters: on one processor, one graphics card, or many processes."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn

from fairveil.base.errors import FairveilError
from fairveil.training.batches import Batch, Batches, Examples, Order, in_sequence, shuffled
from fairveil.training.checkpoints import described, load_checkpoint, save_checkpoint, weights_fingerprint
from fairveil.training.objectives import Classification, Objective
from fairveil.training.schedules import Training, learning_rate_at

GradientRule = Callable[[Sequence[nn.Parameter], torch.Generator], None]
"""Changes the gradients of the parameters in place, between backward pass and step: clipping, noise.

In several processes all have the same gradients and generator, and so do the same. One with `state_dict` and
`load_state_dict` is kept in checkpoints.
"""

Score = Callable[[nn.Module], float]
"""How good a network is; more is better. It is called in evaluation mode and without gradients."""


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to.

    Attributes:
        number: from 1.
        loss: the mean of the objective over its steps.
        score: on the validation data after it, such as accuracy; None without such data.
        learning_rate: at its last step.
        seconds: it took, validation included.
    """

    number: int
    loss: float
    score: float | None
    learning_rate: float
    seconds: float


@dataclass(frozen=True)
class History:
    """What a run came to.

    Attributes:
        epochs: one after another.
        stopped: whether it ended because the score no longer got better.
        kept: the number of the epoch whose network was kept: the last, or the best where patience was set.
    """

    epochs: tuple[Epoch, ...]
    stopped: bool
    kept: int


@runtime_checkable
class _Stateful(Protocol):
    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any], /) -> Any: ...


def train(
    network: nn.Module,
    data: Examples,
    settings: Training,
    *,
    objective: Objective | None = None,
    validation: Examples | Score | None = None,
    order: Order = shuffled,
    gradients: GradientRule | None = None,
    checkpoint: Path | None = None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    on_step: Callable[[float, float], None] = lambda done, loss: None,
    device: torch.device | str | None = None,
) -> History:
    """Train a network, in place.

    Started by `accelerate launch` or `torchrun`, several processes share each batch, and all end with the same network.
    PyTorch's own generator is left as it was.

    Args:
        network: from float pixels in [0, 1], (B, C, H, W), to whatever the objective wants.
        data: to train on.
        settings: how.
        objective: the loss; by default `Classification()`. Its parameters are trained too if it is a module.
        validation: labeled data whose accuracy is the score of each epoch, or a function that gives a score.
        order: which rows come together in batches, and when.
        gradients: what to do with each step's gradient before it is used.
        checkpoint: a file that is written after each epoch. If it already exists, the run goes on from it, and ends
            as if it had never been interrupted: on processors, bit for bit.
        on_epoch: told of each epoch.
        on_step: told of each step how many epochs are done, in fractions, and the loss.
        device: "cpu" to use no graphics card, "cuda:1" for the second one; by default the best there is. Several
            processes have a card each, which their launcher chooses: give them "cuda" at the most.

    Raises:
        FairveilError: the loss or the network is no longer finite (the last good checkpoint stays); or the checkpoint
            is of another run, or damaged.
    """
    accelerator = Accelerator(cpu=device is not None and torch.device(device).type == "cpu")
    where = chosen_device(device, accelerator.device, accelerator.num_processes)
    with torch.random.fork_rng():
        run = _Run(accelerator, where, network, data, settings, objective or Classification(), order, gradients)
        score = _scorer(validation, accelerator, where, settings)
        made_with = run.made_with(validation) if checkpoint is not None else {}
        if checkpoint is not None and checkpoint.exists():
            run.load(load_checkpoint(checkpoint, made_with))
        while not run.is_done:
            run.start_timing()
            loss = run.train_epoch(on_step if accelerator.is_main_process else lambda done, loss: None)
            run.end_epoch(loss, None if score is None else score(network))
            if checkpoint is not None and accelerator.is_main_process:
                save_checkpoint(checkpoint, run.state(), made_with)
            if accelerator.is_main_process:
                on_epoch(run.epochs[-1])
        accelerator.wait_for_everyone()
        run.keep_best()
    return History(tuple(run.epochs), run.is_stopped, run.kept)


def chosen_device(asked: torch.device | str | None, found: torch.device, processes: int) -> torch.device:
    """Where a process trains: where it was asked to, as far as that is possible.

    Args:
        asked: a device, with or without a number; None leaves the choice to accelerate.
        found: what accelerate found for this process.
        processes: how many train together.

    Raises:
        FairveilError: there is no such device, or several processes are asked onto one.

    >>> chosen_device("cuda:1", torch.device("cuda", 0), 1)
    device(type='cuda', index=1)
    """
    if asked is None:
        return found
    wanted = torch.device(asked)
    if wanted.type != found.type:
        raise FairveilError(f"There is no {asked} to train on here: leave the device out, or give cpu.")
    if wanted.index is None or wanted.index == found.index or wanted.type == "cpu":
        return found
    if processes > 1:
        raise FairveilError(
            f"{processes} processes cannot all train on {asked}: give {wanted.type}, and let their launcher choose."
        )
    return wanted


def evaluate(network: nn.Module, data: Examples, *, batch_size: int = 512, device: torch.device | str = "cpu") -> float:
    """The share of pictures a classifier is right about.

    Args:
        network: on the device; in evaluation mode while it is asked, and then as it was.
        data: whose labels are classes.
        batch_size: how many pictures at once.
        device: where to compute.
    """
    batches = Batches(data, batch_size, order=in_sequence, device=torch.device(device))
    return float(_count_right(network, batches) / len(data.images))


class _Step(nn.Module):
    """Network and objective as one module, so that what spreads a module over processes sees one pass through it."""

    def __init__(self, network: nn.Module, objective: Objective, precision: Literal["fp32", "bf16"]) -> None:
        super().__init__()
        self.network = network
        self.objective = objective
        self.mixed = precision == "bf16"

    def forward(self, batch: Batch, generator: torch.Generator) -> Tensor:
        with torch.autocast(batch.images.device.type, dtype=torch.bfloat16, enabled=self.mixed):
            return self.objective(self.network, batch, generator)


class _Run:
    """A run between two epochs: all that a checkpoint holds.

    Generators are seeded anew in each epoch, from the run's seed and the epoch's number, so that they need not be kept.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        device: torch.device,
        network: nn.Module,
        data: Examples,
        settings: Training,
        objective: Objective,
        order: Order,
        gradients: GradientRule | None,
    ) -> None:
        self.accelerator, self.device, self.settings, self.data = accelerator, device, settings, data
        self.network, self.objective, self.gradients = network, objective, gradients
        if settings.channels_last:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.whole = _Step(network, objective, settings.precision).to(device)
        self.parameters = [parameter for parameter in self.whole.parameters() if parameter.requires_grad]
        self.optimizer = _optimizer(self.parameters, settings)
        self.batches = Batches(
            data,
            settings.batch_size,
            order,
            device,
            accelerator.process_index,
            accelerator.num_processes,
            settings.channels_last,
        )
        self.epochs: list[Epoch] = []
        self.best: dict[str, Tensor] | None = None
        self.kept = 0
        self.started = time.perf_counter()
        # Prepared alone: the optimizer would only be wrapped to skip steps of 16-bit floats, which are not used.
        self.prepared = accelerator.prepare_model(self.whole, device_placement=False)

    def made_with(self, validation: Examples | Score | None) -> dict[str, str]:
        """All that the result depends on, in words; to be asked before the first epoch."""
        return {
            "settings": self.settings.model_dump_json(),
            "data": self.data.fingerprint(),
            "initial weights": weights_fingerprint(self.network),
            "objective": described(self.objective),
            "gradients": described(self.gradients),
            "order": described(self.batches.order),
            "validation": described(validation)
            if validation is None or callable(validation)
            else (validation.fingerprint()),
            "processes": str(self.accelerator.num_processes),
        }

    @property
    def is_stopped(self) -> bool:
        """Whether patience has run out."""
        return self.settings.patience is not None and len(self.epochs) - self.kept >= self.settings.patience

    @property
    def is_done(self) -> bool:
        return len(self.epochs) >= self.settings.epochs or (bool(self.epochs) and self.is_stopped)

    def start_timing(self) -> None:
        self.started = time.perf_counter()

    def train_epoch(self, on_step: Callable[[float, float], None]) -> float:
        """Go through the data once; gives the mean loss."""
        number, losses = len(self.epochs), []
        order, noise, own = self._generators(number)
        self.prepared.train()
        plan = self.batches.plan(order)
        if not plan:
            raise FairveilError("The order of training gave no batch: use smaller batches or more images.")
        for step, rows in enumerate(plan):
            for group in self.optimizer.param_groups:  # at the middle of the step, where no schedule is at zero
                group["lr"] = learning_rate_at(number + (step + 0.5) / len(plan), self.settings)
            loss = self.prepared(replace(self.batches.batch(rows), epoch=number), own)
            self.optimizer.zero_grad()
            self.accelerator.backward(loss)
            if self.gradients is not None:
                self.gradients(self.parameters, noise)
            self.optimizer.step()
            losses.append(self._mean_over_processes(loss.detach()))
            if not np.isfinite(losses[-1]):
                raise FairveilError(self._not_finite(f"The loss is {losses[-1]}", step + 1))
            on_step(number + (step + 1) / len(plan), losses[-1])
        if not all(bool(parameter.isfinite().all()) for parameter in self.parameters):
            raise FairveilError(self._not_finite("A weight is no longer a finite number", len(plan)))
        self._agree_on_buffers()
        return float(np.mean(losses))

    def end_epoch(self, loss: float, score: float | None) -> None:
        """Take down an epoch, and its network if it is the best so far."""
        number = len(self.epochs) + 1
        better = score is not None and (self.kept == 0 or score > (self.epochs[self.kept - 1].score or float("-inf")))
        rate, seconds = self.optimizer.param_groups[0]["lr"], time.perf_counter() - self.started
        self.epochs.append(Epoch(number, loss, score, rate, seconds))
        if self.settings.patience is None or score is None:
            self.kept = number
        elif better:
            self.kept = number
            self.best = {name: value.detach().cpu().clone() for name, value in self.whole.state_dict().items()}

    def keep_best(self) -> None:
        """Go back to the network of the epoch that is kept."""
        if self.best is not None and self.kept < len(self.epochs):
            self.whole.load_state_dict(self.best)

    def state(self) -> dict[str, Any]:
        return {
            "weights": self.whole.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "gradients": self.gradients.state_dict() if isinstance(self.gradients, _Stateful) else None,
            "epochs": [asdict(epoch) for epoch in self.epochs],
            "best": self.best,
            "kept": self.kept,
        }

    def load(self, state: dict[str, Any]) -> None:
        self.whole.load_state_dict(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        if isinstance(self.gradients, _Stateful):
            self.gradients.load_state_dict(state["gradients"])
        self.epochs = [Epoch(**epoch) for epoch in state["epochs"]]
        self.best, self.kept = state["best"], state["kept"]

    def _generators(self, epoch: int) -> tuple[torch.Generator, torch.Generator, torch.Generator]:
        """Of the order and of gradient noise, the same in all processes, and of the objective, each its own."""
        process, device = self.accelerator.process_index, self.device
        seeds = [[0], [1], [2, process], [3, process]]
        order, noise, own, ambient = (
            int(np.random.SeedSequence([self.settings.seed, epoch, *stream]).generate_state(1, np.uint64)[0])
            for stream in seeds
        )
        torch.manual_seed(ambient)  # dropout draws from PyTorch's own generator
        return (
            torch.Generator().manual_seed(order),
            torch.Generator(device).manual_seed(noise),
            torch.Generator(device).manual_seed(own),
        )

    def _mean_over_processes(self, loss: Tensor) -> float:
        """So that all processes see the same, and stop together when it is not finite."""
        if self.accelerator.num_processes > 1:
            loss = self.accelerator.reduce(loss, reduction="mean")
        return float(loss)

    def _agree_on_buffers(self) -> None:
        """Batch norm's running means differ between processes after a step: the first process's are taken."""
        if self.accelerator.num_processes > 1:
            for buffer in self.whole.buffers():
                buffer.copy_(broadcast(buffer))

    def _not_finite(self, what: str, step: int) -> str:
        kept = f"The checkpoint is that of epoch {len(self.epochs)}" if self.epochs else "No epoch was finished"
        return (
            f"{what} at step {step} of epoch {len(self.epochs) + 1}: lower the learning rate "
            f"({self.settings.learning_rate:g}) or the weight of a penalty, or give it a warm-up. {kept}."
        )


def _optimizer(parameters: Sequence[nn.Parameter], settings: Training) -> torch.optim.Optimizer:
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.optimizer == "adam":
        return torch.optim.Adam(parameters, rate, weight_decay=decay)
    return torch.optim.SGD(parameters, rate, momentum=settings.momentum, nesterov=settings.nesterov, weight_decay=decay)


def _scorer(
    validation: Examples | Score | None, accelerator: Accelerator, device: torch.device, settings: Training
) -> Callable[[nn.Module], float] | None:
    """A function that scores the network after each epoch, the same in all processes."""
    if validation is None:
        if settings.patience is not None:
            raise FairveilError("Stopping early (patience) needs validation data: give some, or leave patience out.")
        return None
    if callable(validation):
        own_score = validation

        @torch.no_grad()
        def score(network: nn.Module) -> float:
            network.eval()
            return float(own_score(network))

        return score
    if validation.labels.is_floating_point():
        raise FairveilError("Accuracy needs labels that are classes: give a function that scores the network instead.")
    data, index, count = validation, accelerator.process_index, accelerator.num_processes

    def accuracy(network: nn.Module) -> float:
        def own_part(rows: int, batch_size: int, generator: torch.Generator) -> Sequence[Tensor]:
            return torch.split(torch.arange(index, rows, count), batch_size)

        own = Batches(data, 512, own_part, device, channels_last=settings.channels_last)
        right = _count_right(network, own, precision=settings.precision)
        return float(accelerator.reduce(right, reduction="sum")) / len(data.images)

    return accuracy


@torch.no_grad()
def _count_right(network: nn.Module, batches: Batches, precision: Literal["fp32", "bf16"] = "fp32") -> Tensor:
    """How many pictures a classifier is right about, float, on the device."""
    was_training = network.training
    network.eval()
    right = torch.zeros((), device=batches.device)
    for batch in batches.epoch(torch.Generator()):
        with torch.autocast(batches.device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
            logits = network(batch.images)
        right += (logits.argmax(1) == batch.targets).sum()
    network.train(was_training)
    return right
