"""What each of two processes does with its half of a batch; run by torch.distributed.run."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from fairveil.fair.penalties import disparate_impact, equal_loss, equalized_odds, worst_group_loss

INPUTS = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))
TARGETS = (torch.arange(10) % 3 == 0).float()
# the first process sees the even rows, which are all of one group but one
GROUPS = torch.tensor([0, 1, 0, 1, 0, 1, 0, 0, 1, 1])
PENALTIES = {
    "equal loss": lambda p, y, a: equal_loss((p - y) ** 2, a, 2),
    "equalized odds": lambda p, y, a: equalized_odds(p, y, a, 2),
    "disparate impact": lambda p, y, a: disparate_impact(p, a, 2),
    "min-max": lambda p, y, a: worst_group_loss((p - y) ** 2, a, 2),
}


def network():
    made = nn.Linear(4, 1)
    with torch.no_grad():
        made.weight.copy_(torch.tensor([[0.3, -0.8, 0.5, 0.9]]))
        made.bias.zero_()
    return made


def main(folder):
    dist.init_process_group("gloo")
    mine = slice(dist.get_rank(), None, dist.get_world_size())
    found = {}
    for name, penalty in PENALTIES.items():
        whole = DistributedDataParallel(network())
        value = penalty(whole(INPUTS[mine])[:, 0].sigmoid(), TARGETS[mine], GROUPS[mine])
        value.backward()
        found |= {f"{name} value": value.item(), f"{name} gradient": whole.module.weight.grad.clone()}
    if dist.get_rank() == 0:
        torch.save(found, folder / "two.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
