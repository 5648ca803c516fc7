"""Seconds a photo: the literal algorithm and Fawkes against ours, what each achieves and costs (section 3.6.3)."""

import time
from operator import attrgetter

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from fairveil.experiment.published import published_table
from fairveil.experiment.study import Measurement, Results, Study, Trial
from fairveil.experiment.workbench import Workbench
from fairveil.faces.canvas import view_of_face
from fairveil.faces.detection import Detector
from fairveil.faces.embedding import MINIMUM_FACE, faces_that_count
from fairveil.faces.zoo import DEFAULT_ENSEMBLE, ZOO, load_recognizer
from fairveil.protection.lowkey import PRESETS, LowKey
from fairveil.protection.paper.fawkes import MODES, Fawkes
from fairveil.protection.paper.people import People, cast, resolve
from fairveil.protection.paper.protected import Attack, attacked, targets_for
from fairveil.protection.paper.transfer import tiny
from fairveil.protection.verification import quality_of_face
from fairveil.report.tables import Table, Unit, pivot

_COLUMNS: dict[str, Unit] = {
    "seconds a photo": "s",
    "cosine, attacked": "cosine",
    "cosine, left out": "cosine",
    "LPIPS (VGG)": "LPIPS",
    "PSNR": "dB",
    "ΔE": "ΔE",
    "ΔE, color": "ΔE",
}


class Runtime(BaseModel):
    """Settings.

    Attributes:
        people: whose gallery photos are protected.
        photos: how many of them.
        side: photos are enlarged or shrunk to this many pixels on their longer side.
        methods: settings of the attack by name.
        recognizers: the ensemble.
        seed: of the starting noise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    people: People = People()
    photos: int = Field(5, ge=1)
    side: int = Field(500, ge=64)
    methods: dict[str, LowKey | Fawkes]
    recognizers: tuple[str, ...] = DEFAULT_ENSEMBLE
    seed: int = 0


class Method(Trial):
    """One method on a few photos.

    Attributes:
        name: of the method.
        people: whose photos.
        photos: how many.
        side: of the photos.
        attack: settings.
        recognizers: the ensemble.
        seed: of the starting noise.
    """

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


def trials(settings: Runtime) -> list[Method]:
    """One method a trial."""
    common = {name: getattr(settings, name) for name in ("people", "photos", "side", "recognizers", "seed")}
    return [Method(name=name, attack=attack, **common) for name, attack in settings.methods.items()]


@torch.no_grad()
def _cosine(one: Tensor, other: Tensor) -> float:
    return float((one * other).sum())


def run(method: Method, bench: Workbench) -> list[Measurement]:
    """Protect photos one at a time and take the time, after one photo that is not counted."""
    table = cast(method.people, bench.cache).protected
    table = table.take(range(min(method.photos, len(table))))
    attack = Attack.of(method.attack, method.recognizers, method.people, method.seed)
    targets = targets_for(table, attack, bench)
    detector = Detector.pretrained(minimum_face=MINIMUM_FACE)
    ensemble = [load_recognizer(name) for name in method.recognizers]
    left_out = [load_recognizer(name) for name in ZOO if name not in method.recognizers]
    taken: dict[str, list[float]] = {name: [] for name in _COLUMNS}
    for row in range(-1, len(table)):
        photo = _resized(table.photo(max(0, row)), method.side)
        faces = faces_that_count(photo, detector, "central")
        if not len(faces):
            continue
        settings = method.attack if row >= 0 else method.attack.model_copy(update={"steps": 1})
        started = time.perf_counter()
        after = attacked(photo, faces, ensemble, settings, seed=method.seed, target=targets[max(0, row)])
        if row < 0:
            continue
        taken["seconds a photo"].append(time.perf_counter() - started)
        views = [view_of_face(picture, faces.landmarks[0]) for picture in (photo, after)]
        for name, recognizers in (("cosine, attacked", ensemble), ("cosine, left out", left_out)):
            cosines = [_cosine(recognizer.embed(*views[0]), recognizer.embed(*views[1])) for recognizer in recognizers]
            taken[name] += [sum(cosines) / len(cosines)] if cosines else []
        quality = quality_of_face(photo, after, faces.landmarks[0])
        taken["LPIPS (VGG)"].append(quality.lpips_vgg)
        for name, value in (
            ("PSNR", quality.psnr),
            ("ΔE", quality.delta_e),
            ("ΔE, color", quality.delta_chroma),
        ):
            taken[name] += [] if value is None else [value]
    return [
        Measurement(labels={"method": method.name, "what": name}, value=sum(values) / len(values), count=len(values))
        for name, values in taken.items()
        if values
    ]


@torch.no_grad()
def _resized(photo: Tensor, side: int) -> Tensor:
    scale = side / max(photo.shape[1:])
    size = [max(1, round(length * scale)) for length in photo.shape[1:]]
    resized = F.interpolate(photo[None].float(), size, mode="bicubic", antialias=True)
    return resized[0].round().clamp(0, 255).byte()


def tables(settings: Runtime, results: Results[Method]) -> list[Table]:
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
        "recognisers; lower is better protected. "
        "Other work on the machine at the same time makes seconds longer: compare rows of one run.",
    )
    return [ours, published_table("3.6.3").table()]


def differences(settings: Runtime) -> list[str]:
    """What differs from section 3.6.3."""
    return [
        "A processor instead of a GeForce RTX 2080 Ti: compare methods with each other, not with published seconds.",
        "Fawkes: its objective, optimizer and modes (version 0.3) on our recognizers, instead of its authors' program "
        "with a network of its own.",
        f"Recognisers: {len(settings.recognizers)} small pretrained ones instead of four networks of 152 layers.",
    ]


def rehearsal(settings: Runtime) -> Runtime:
    """Every method for one step on one generated photo."""
    methods = {name: attack.model_copy(update={"steps": 1}) for name, attack in settings.methods.items()}
    return settings.model_copy(update={"people": tiny(), "photos": 1, "side": 128, "methods": methods})


_METHODS: dict[str, LowKey | Fawkes] = {
    "literal, whole photo": LowKey(canvas="photo"),
    "literal, face alone": LowKey(),
    **{f"ours, {name}": PRESETS[name] for name in ("low", "medium", "high")},
    **{f"Fawkes, {name}": mode for name, mode in MODES.items()},
}

_SMALL = Runtime(methods=_METHODS)

RUNTIME = Study(
    name="lowkey-runtime",
    title="Run-time",
    question="How long does a photo take, and what does the faster way give up?",
    source="section 3.6.3",
    presets={
        "smoke": rehearsal(_SMALL).model_copy(update={"recognizers": ("mobilefacenet-192", "mobileface")}),
        "small": _SMALL,
        "paper": _SMALL.model_copy(update={"people": People(data="facescrub"), "photos": 50, "side": 1000}),
    },
    trials=trials,
    run=run,
    tables=tables,
    differences=differences,
    rehearsal=rehearsal,
    resolve=resolve,
    data=attrgetter("people.data"),
    alone=True,
)
