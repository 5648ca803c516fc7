"""What a study is: settings, independent trials, how a trial is run, and tables of what came out."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, FiniteFloat

from fairveil.base.estimate import BinomialCount, Estimate
from fairveil.base.keys import content_key
from fairveil.experiment.workbench import Workbench
from fairveil.report.study import Figure
from fairveil.report.tables import Table

Preset = Literal["smoke", "small", "paper"]
"""How large a study is: seconds on made-up data, minutes on two cores, or the published setting."""

PRESETS: tuple[Preset, ...] = get_args(Preset)

SYNTHETIC = "synthetic"
"""The name that stands for made-up data where a data set is asked for."""


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
        return Estimate.from_ends(self.value, self.low, self.high, count=self.count)

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


@dataclass(frozen=True, kw_only=True)
class Study(ABC, Generic[SettingsType, TrialType]):
    """An experiment that anyone can run at a size that fits their machine.

    One class serves all studies that differ in their names and settings only. What else differs is a field of a
    subclass (then a frozen dataclass too), or a method that a subclass overrides. The class must be importable by name.

    Attributes:
        name: by which commands know it.
        title: a few words.
        question: what it answers, in a sentence.
        source: where the dissertation has it, or "beyond the dissertation".
        small: settings of the preset that takes minutes on two cores.
        paper: settings as published.
        smoke: what the preset that takes seconds has besides `rehearsal(small)`, by field of the settings.
        alone: whether trials measure seconds, so that no other may run beside them.
        revision: raised when the same trial would give another result, so that old records are not taken for new.
    """

    name: str
    title: str
    question: str
    source: str
    small: SettingsType
    paper: SettingsType
    smoke: Mapping[str, Any] = field(default_factory=dict)
    alone: bool = False
    revision: int = 1

    @property
    def presets(self) -> Mapping[Preset, SettingsType]:
        """Settings by preset."""
        smoke = self.rehearsal(self.small).model_copy(update=dict(self.smoke))
        return {"smoke": smoke, "small": self.small, "paper": self.paper}

    @abstractmethod
    def trials(self, settings: SettingsType) -> Sequence[TrialType]:
        """The independent trials that settings ask for."""

    @abstractmethod
    def run(self, trial: TrialType, bench: Workbench) -> Sequence[Measurement]:
        """Run one trial."""

    @abstractmethod
    def tables(self, settings: SettingsType, results: Results[TrialType]) -> Sequence[Table]:
        """What the finished trials show, ours beside the published.

        Where a title or a heading has the word "ours", readers are shown the preset and the data with it: "ours
        (small, lfw)".
        """

    @abstractmethod
    def differences(self, settings: SettingsType) -> Sequence[str]:
        """What differs from the published setting and why, a sentence each."""

    @abstractmethod
    def rehearsal(self, settings: SettingsType) -> SettingsType:
        """Settings of the same trials on tiny made-up data with a single step: what a dry run runs."""

    def figures(self, settings: SettingsType, results: Results[TrialType]) -> Sequence[Figure]:
        """Plots of the results; none by default."""
        return ()

    def resolve(self, settings: SettingsType) -> SettingsType:
        """Settings with all that this machine decides put in, once, when a study is run; by default as they are.

        That is what stands in for data that are not here, and hashes of those that are: trials, tables and differences
        depend on nothing but settings.
        """
        return settings

    def data(self, settings: SettingsType) -> str:
        """The name of the data set that resolved settings ask for; empty if they name none."""
        return ""

    def check(self, settings: SettingsType) -> Iterable[str]:
        """Look at the labels of the data, where they are here, before any photo is opened.

        Yields:
            What was changed when they were read, in sentences.

        Raises:
            FairveilError: the trials could not be run with these data.
        """
        return ()

    def key(self, trial: TrialType) -> str:
        """The name of a trial's record: a hash of everything its result depends on."""
        return content_key({"study": self.name, "revision": self.revision, "trial": trial.model_dump(mode="json")})
