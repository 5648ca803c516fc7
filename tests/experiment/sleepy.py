"""A study that takes no time and no networks, for testing the engine in other processes."""

import os
import time
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from fairveil.experiment.study import Measurement, Study, Trial
from fairveil.report.tables import pivot


class Inner(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    depth: int = 1
    words: tuple[str, ...] = ("a",)


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int = 4
    seconds: float = 0.0
    failing: tuple[int, ...] = ()
    dying: tuple[int, ...] = ()
    log: str | None = None
    inner: Inner = Inner()
    bed: str = "sofa"


class Nap(Trial):
    number: int
    seconds: float
    fails: bool
    dies: bool
    log: str | None

    @property
    def label(self):
        return f"nap {self.number}"


class Sleepy(Study[Settings, Nap]):
    def trials(self, settings):
        return [
            Nap(
                number=number,
                seconds=settings.seconds,
                fails=number in settings.failing,
                dies=number in settings.dying,
                log=settings.log,
            )
            for number in range(settings.count)
        ]

    def run(self, nap, bench):
        if nap.log:
            with Path(nap.log).open("a") as log:
                log.write(f"{nap.number}\n")
        with bench.timed("sleeping"):
            time.sleep(nap.seconds)
        if nap.dies:
            os._exit(3)
        if nap.fails:
            raise ValueError(f"nap {nap.number} was not slept")
        return [Measurement(labels={"nap": nap.label, "what": "square"}, value=nap.number**2)]

    def tables(self, settings, results):
        measured = [one for some in results.values() for one in some]
        return [pivot(measured, row="nap", column="what", title="Naps, ours", unit="count")]

    def differences(self, settings):
        return ["Nobody published naps."]

    def resolve(self, settings):
        return settings.model_copy(update={"bed": "floor"}) if settings.bed == "four-poster" else settings

    def rehearsal(self, settings):
        return settings.model_copy(update={"seconds": 0.0, "log": None})

    def data(self, settings):
        return settings.bed


SLEEPY = Sleepy(
    name="sleepy",
    title="Naps",
    question="Does the engine wake up?",
    source="nowhere",
    small=Settings(count=6),
    paper=Settings(count=8, seconds=1000),
    smoke={"count": 4},
)
