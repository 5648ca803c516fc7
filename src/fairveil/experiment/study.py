"""What a study is: settings, independent trials, one function that runs a trial, and tables of what came out."""

import hashlib
import json
import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, FiniteFloat

from fairveil.base.estimate import BinomialCount, Estimate
from fairveil.experiment.workbench import Workbench
from fairveil.report.study import Figure
from fairveil.report.tables import Table

Preset = Literal["smoke", "small", "paper"]
"""How large a study is: seconds on made-up data, minutes on two cores, or the published setting."""

PRESETS: tuple[Preset, ...] = get_args(Preset)


class Trial(BaseModel):
    """One independent piece of a study: everything that its result depends on, and nothing else.

    What is not a setting, such as a data set on this machine, is in it by a hash of its content (see `Study.resolve`);
    pretrained networks are by their names, which stand for pinned weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    @abstractmethod
    def label(self) -> str:
        """What progress and reports call the trial; unique within a study."""


class Measurement(BaseModel):
    """One figure that a trial measured.

    Attributes:
        labels: what it is of, such as {"defender": "dlib-resnet", "metric": "rank-1"}.
        value: the figure, a finite number; shares are in [0, 1].
        low: lower end of its 95 % interval, where one can be given.
        high: upper end.
        count: how many probes, photos or pairs it was measured on.
    """

    model_config = ConfigDict(frozen=True)

    labels: dict[str, str]
    value: FiniteFloat
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None
    count: int | None = None

    @classmethod
    def of(cls, labels: dict[str, str], estimate: Estimate) -> "Measurement":
        """What is kept of an estimate: not what was sampled, nor how its interval was made."""
        low, high = estimate.ends
        return cls(labels=labels, value=estimate.value, low=low, high=high, count=estimate.count)

    @property
    def estimate(self) -> Estimate:
        """The figure with its interval."""
        low, high = -math.inf if self.low is None else self.low, math.inf if self.high is None else self.high
        return Estimate(self.value, low, high, count=self.count)

    @property
    def counted(self) -> BinomialCount:
        """The count that a share was computed from.

        Raises:
            ValueError: the figure is no share of `count`.
        """
        return BinomialCount.of_share(self.value, self.count or 0)


SettingsType = TypeVar("SettingsType", bound=BaseModel)
TrialType = TypeVar("TrialType", bound=Trial)


Results = Mapping[TrialType, Sequence[Measurement]]
"""What the finished trials measured."""


def no_figures(settings: Any, results: Any) -> Sequence[Figure]:
    """For studies whose tables say it all."""
    return ()


def nothing_named(settings: Any) -> str:
    """For studies whose settings name no data set."""
    return ""


def nothing_to_check(settings: Any) -> Iterable[str]:
    """For studies whose settings name no data, or whose data are read in a moment."""
    return ()


def as_they_are(settings: SettingsType) -> SettingsType:
    """For studies that depend on nothing but their settings."""
    return settings


@dataclass(frozen=True)
class Study(Generic[SettingsType, TrialType]):
    """An experiment that anyone can run at a size that fits their machine. All functions must be importable by name.

    Attributes:
        name: by which commands know it.
        title: a few words.
        question: what it answers, in a sentence.
        source: where the dissertation has it, or "beyond the dissertation".
        presets: settings by preset.
        trials: the independent trials that settings ask for.
        run: runs one trial.
        tables: what the finished trials show, ours beside the published. Where a title or a heading has the word
            "ours", readers are shown the preset and the data with it: "ours (small, lfw)".
        differences: what differs from the published setting and why, a sentence each.
        rehearsal: the same trials on tiny made-up data with a single step: what a dry run runs.
        figures: plots of the results.
        resolve: settings with all that this machine decides put in, once, when a study is run: what stands in for data
            that are not here, hashes of those that are. Trials, tables and differences depend on nothing but settings.
        data: the name of the data set that resolved settings ask for.
        check: looks at the labels of the data, where they are here, before any photo is opened: yields what was changed
            when they were read, in sentences, and raises a `FairveilError` where the trials could not be run with them.
        alone: whether trials measure seconds, so that no other may run beside them.
        revision: raised when the same trial would give another result, so that old records are not taken for new.
    """

    name: str
    title: str
    question: str
    source: str
    presets: Mapping[Preset, SettingsType]
    trials: Callable[[SettingsType], Sequence[TrialType]]
    run: Callable[[TrialType, Workbench], Sequence[Measurement]]
    tables: Callable[[SettingsType, "Results[TrialType]"], Sequence[Table]]
    differences: Callable[[SettingsType], Sequence[str]]
    rehearsal: Callable[[SettingsType], SettingsType]
    figures: Callable[[SettingsType, "Results[TrialType]"], Sequence[Figure]] = no_figures
    resolve: Callable[[SettingsType], SettingsType] = as_they_are
    data: Callable[[SettingsType], str] = nothing_named
    check: Callable[[SettingsType], Iterable[str]] = nothing_to_check
    alone: bool = False
    revision: int = 1

    def key(self, trial: TrialType) -> str:
        """The name of a trial's record: a hash of everything its result depends on."""
        content = {"study": self.name, "revision": self.revision, "trial": trial.model_dump(mode="json")}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:20]
