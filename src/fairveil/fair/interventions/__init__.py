"""The interventions of chapter 6, a file each: what every one of them is stands in `base`.

Every module of this folder is read, so that commands, trainers, cards and studies know all interventions.
"""

from importlib import import_module
from pkgutil import iter_modules

from fairveil.fair.interventions.base import KINDS as KINDS
from fairveil.fair.interventions.base import AnyIntervention as AnyIntervention
from fairveil.fair.interventions.base import Baseline as Baseline
from fairveil.fair.interventions.base import GroupName as GroupName
from fairveil.fair.interventions.base import Intervention as Intervention
from fairveil.fair.interventions.base import Outputs as Outputs
from fairveil.fair.interventions.base import Penalty as Penalty
from fairveil.fair.interventions.base import Task as Task
from fairveil.fair.interventions.disparate_impact import DisparateImpact as DisparateImpact
from fairveil.fair.interventions.equal_loss import EqualLoss as EqualLoss
from fairveil.fair.interventions.equalized_odds import EqualizedOdds as EqualizedOdds
from fairveil.fair.interventions.fair_features import FairFeatures as FairFeatures
from fairveil.fair.interventions.group_margins import GroupMargins as GroupMargins
from fairveil.fair.interventions.label_flipping import LabelFlipping as LabelFlipping
from fairveil.fair.interventions.min_max import MinMax as MinMax
from fairveil.fair.interventions.registry import entry_of as entry_of
from fairveil.fair.interventions.registry import everything as everything
from fairveil.fair.interventions.registry import intervention as intervention
from fairveil.fair.interventions.registry import options as options

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
