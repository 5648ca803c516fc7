"""Seconds a photo: the literal algorithm and Fawkes against ours, what each achieves and costs (section 3.6.3)."""

import time

import torch
from pydantic import Field
from torch import Tensor

from fairveil.experiment.published import published_table
from fairveil.experiment.study import Measurement, Results, Trial
from fairveil.experiment.workbench import Workbench
from fairveil.faces.canvas import view_of_face
from fairveil.faces.detection import Detector
from fairveil.faces.embedding import MINIMUM_FACE, faces_that_count
from fairveil.faces.zoo import DEFAULT_ENSEMBLE, ZOO, load_recognizer
from fairveil.protection.lowkey import PRESETS, LowKey
from fairveil.protection.paper.alterations import sized
from fairveil.protection.paper.fawkes import MODES, Fawkes
from fairveil.protection.paper.people import People, cast
from fairveil.protection.paper.protected import COSTS, GalleryAttack, attacked, costs_of, targets_for
from fairveil.protection.paper.setting import (
    LITERAL,
    TWO_RECOGNIZERS,
    PeopleSettings,
    PeopleStudy,
    tiny,
    with_steps,
)
from fairveil.protection.verification import quality_of_face
from fairveil.report.tables import Table, Unit, pivot

_COLUMNS: dict[str, Unit] = {
    "seconds a photo": "s",
    "cosine, attacked": "cosine",
    "cosine, left out": "cosine",
    **{name: COSTS[name].unit for name in ("LPIPS (VGG)", "PSNR", "ΔE", "ΔE, color")},
}


class Runtime(PeopleSettings):
    """Settings.

    Attributes:
        photos: how many of them.
        side: photos are enlarged or shrunk to this many pixels on their longer side.
        methods: settings of the attack by name.
        recognizers: the ensemble.
    """

    photos: int = Field(5, ge=1)
    side: int = Field(500, ge=64)
    methods: dict[str, LowKey | Fawkes]
    recognizers: tuple[str, ...] = DEFAULT_ENSEMBLE


class Method(Trial):
    """One method on a few photos; see `Runtime`."""

    name: str
    people: People
    photos: int
    side: int
    attack: LowKey | Fawkes
    recognizers: tuple[str, ...]
    seed: int

    @property
    def label(self) -> str:
        """The method's name."""
        return self.name


@torch.no_grad()
def _cosine(one: Tensor, other: Tensor) -> float:
    return float((one * other).sum())


class RuntimeStudy(PeopleStudy[Runtime, Method]):
    """A study of seconds."""

    def trials(self, settings: Runtime) -> list[Method]:
        """One method a trial."""
        common = {name: getattr(settings, name) for name in ("people", "photos", "side", "recognizers", "seed")}
        return [Method(name=name, attack=attack, **common) for name, attack in settings.methods.items()]

    def run(self, trial: Method, bench: Workbench) -> list[Measurement]:
        """Protect photos one at a time and take the time, after one photo that is not counted."""
        table = cast(trial.people, bench.cache).protected
        table = table.take(range(min(trial.photos, len(table))))
        attack = GalleryAttack.of(trial.attack, trial.recognizers, trial.people, trial.seed)
        targets = targets_for(table, attack, bench)
        detector = Detector.pretrained(minimum_face=MINIMUM_FACE)
        ensemble = [load_recognizer(name) for name in trial.recognizers]
        left_out = [load_recognizer(name) for name in ZOO if name not in trial.recognizers]
        taken: dict[str, list[float]] = {name: [] for name in _COLUMNS}
        for row in range(-1, len(table)):
            photo = sized(table.photo(max(0, row)), longer=trial.side)
            faces = faces_that_count(photo, detector, "central")
            if not len(faces):
                continue
            settings = trial.attack if row >= 0 else with_steps(trial.attack, 1)
            started = time.perf_counter()
            after = attacked(photo, faces, ensemble, settings, seed=trial.seed, target=targets[max(0, row)])
            if row < 0:
                continue
            taken["seconds a photo"].append(time.perf_counter() - started)
            views = [view_of_face(picture, faces.landmarks[0]) for picture in (photo, after)]
            for name, recognizers in (("cosine, attacked", ensemble), ("cosine, left out", left_out)):
                cosines = [
                    _cosine(recognizer.embed(*views[0]), recognizer.embed(*views[1])) for recognizer in recognizers
                ]
                taken[name] += [sum(cosines) / len(cosines)] if cosines else []
            for name, values in costs_of([quality_of_face(photo, after, faces.landmarks[0])]).items():
                if name in taken:
                    taken[name] += values
        return [
            Measurement(labels={"method": trial.name, "what": name}, value=sum(values) / len(values), count=len(values))
            for name, values in taken.items()
            if values
        ]

    def tables(self, settings: Runtime, results: Results[Method]) -> list[Table]:
        """Ours by method, and the published seconds."""
        measured = [one for some in results.values() for one in some]
        ours = pivot(
            measured,
            row="method",
            column="what",
            columns=list(_COLUMNS),
            unit=tuple(_COLUMNS.values()),
            title="Seconds a photo, ours",
            caption=f"Means over {settings.photos} photos of {settings.side} pixels, one at a time, reading, detection "
            "and the choice of Fawkes' target not counted. Cosines: of the protected face with itself, means over "
            "recognizers; lower is better protected. "
            "Other work on the machine at the same time makes seconds longer: compare rows of one run.",
        )
        return [ours, published_table("3.6.3").table()]

    def differences(self, settings: Runtime) -> list[str]:
        """What differs from section 3.6.3."""
        return [
            "A processor instead of a GeForce RTX 2080 Ti: compare methods with each other, not with published "
            "seconds.",
            "Fawkes: its objective, optimizer and modes (version 0.3) on our recognizers, instead of its authors' "
            "program with a network of its own.",
            f"Recognizers: {len(settings.recognizers)} small pretrained ones instead of four networks of 152 layers.",
        ]

    def rehearsal(self, settings: Runtime) -> Runtime:
        """Every method for one step on one generated photo."""
        methods = {name: with_steps(attack, 1) for name, attack in settings.methods.items()}
        return settings.model_copy(update={"people": tiny(), "photos": 1, "side": 128, "methods": methods})


_METHODS: dict[str, LowKey | Fawkes] = {
    "literal, whole photo": LITERAL,
    "literal, face alone": LowKey(),
    **{f"ours, {name}": PRESETS[name] for name in ("low", "medium", "high")},
    **{f"Fawkes, {name}": mode for name, mode in MODES.items()},
}

RUNTIME = RuntimeStudy(
    name="lowkey-runtime",
    title="Run-time",
    question="How long does a photo take, and what does the faster way give up?",
    source="section 3.6.3",
    small=Runtime(methods=_METHODS),
    paper=Runtime(methods=_METHODS, people=People(data="facescrub"), photos=50, side=1000),
    smoke={"recognizers": TWO_RECOGNIZERS},
    alone=True,
)
