"""The interventions of chapter 6, a file each: what every one of them is stands in `base`.

A module of this folder is an intervention that all commands, trainers and cards know.
"""

from importlib import import_module
from pkgutil import iter_modules

from fairveil.fair.interventions.base import AnyIntervention, Baseline, GroupName, Intervention, Outputs, Penalty, Task
from fairveil.fair.interventions.disparate_impact import DisparateImpact
from fairveil.fair.interventions.equal_loss import EqualLoss
from fairveil.fair.interventions.equalized_odds import EqualizedOdds
from fairveil.fair.interventions.fair_features import FairFeatures
from fairveil.fair.interventions.group_margins import GroupMargins
from fairveil.fair.interventions.label_flipping import LabelFlipping
from fairveil.fair.interventions.min_max import MinMax
from fairveil.fair.interventions.registry import KINDS, entry_of, everything, intervention, options

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = [
    "KINDS",
    "AnyIntervention",
    "Baseline",
    "DisparateImpact",
    "EqualLoss",
    "EqualizedOdds",
    "FairFeatures",
    "GroupMargins",
    "GroupName",
    "Intervention",
    "LabelFlipping",
    "MinMax",
    "Outputs",
    "Penalty",
    "Task",
    "entry_of",
    "everything",
    "intervention",
    "options",
]
