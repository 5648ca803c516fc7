"""What each of two processes does with its half of a batch; run by torch.distributed.run."""

import sys
from datetime import timedelta
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
    "equal loss": lambda p, y, a, **more: equal_loss((p - y) ** 2, a, 2, **more),
    # the first process has groups 0 to 2, the second has group 3 as well
    "equal loss, uncounted": lambda p, y, a, **more: equal_loss((p - y) ** 2, a + 2 * y.long(), **more),
    "equalized odds": lambda p, y, a, **more: equalized_odds(p, y, a, 2, **more),
    "disparate impact": lambda p, y, a, **more: disparate_impact(p, a, 2, **more),
    "min-max": lambda p, y, a, **more: worst_group_loss((p - y) ** 2, a, 2, **more),
}


def network():
    made = nn.Linear(4, 1)
    with torch.no_grad():
        made.weight.copy_(torch.tensor([[0.3, -0.8, 0.5, 0.9]]))
        made.bias.zero_()
    return made


def of_first(penalty):
    """What the first process makes of its own half."""
    mine = slice(0, None, 2)
    with torch.no_grad():
        return penalty(network()(INPUTS[mine])[:, 0].sigmoid(), TARGETS[mine], GROUPS[mine])


def main(folder):
    dist.init_process_group("gloo", timeout=timedelta(seconds=60))
    mine = slice(dist.get_rank(), None, dist.get_world_size())
    found = {}
    for name, penalty in PENALTIES.items():
        whole = DistributedDataParallel(network())
        value = penalty(whole(INPUTS[mine])[:, 0].sigmoid(), TARGETS[mine], GROUPS[mine], across_processes=True)
        value.backward()
        found |= {f"{name} value": value.item(), f"{name} gradient": whole.module.weight.grad.clone()}
    if dist.get_rank() == 0:
        # as somebody does who logs on the first process only: the other one takes no part
        found |= {f"{name} alone": of_first(penalty).item() for name, penalty in PENALTIES.items()}
        torch.save(found, folder / "two.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
