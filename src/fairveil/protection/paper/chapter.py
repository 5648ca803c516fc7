"""The studies of chapter 3, each a name, settings and the dissertation's tables it stands beside."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from operator import attrgetter
from types import MappingProxyType
from typing import Any

from fairveil.experiment.study import Study, no_figures
from fairveil.faces.zoo import DEFAULT_ENSEMBLE, FAMILIES
from fairveil.protection.lowkey import APART, PRESETS, LowKey
from fairveil.protection.paper import transfer, variations
from fairveil.protection.paper.fawkes import MODES, Fawkes
from fairveil.protection.paper.people import People, resolve
from fairveil.protection.paper.rows import Row, run_row
from fairveil.protection.paper.transfer import CLEAN, FAST, Transfer, smoke, tiny
from fairveil.protection.paper.variations import Variation, Variations

LITERAL = LowKey(canvas="photo")
"""The dissertation's algorithm as it was published, on the whole photo."""

FACESCRUB = People(
    data="facescrub",
    protected=100,
    gallery_photos=None,
    probe_photos=None,
    photos_of_stranger=None,
    drop_duplicates=True,
)
"""Section 3.4: 100 users, a tenth of their photos as probes. `--set people.data=FOLDER` says where FaceScrub is."""

UMDFACES = FACESCRUB.model_copy(update={"data": "umdfaces"})
"""Section 3.8.3."""

CELEB18 = People(
    data="celeb18",
    faces="aligned",
    protected=6,
    gallery_photos=4,
    probe_photos=12,
    photos_of_stranger=60,
    drop_duplicates=True,
)
"""The second data set at hand: aligned crops of 18 people."""

SMALL_TOWN = People(strangers=200)
"""The same users among fewer strangers, where every defender's way to look at photos needs the whole gallery anew."""

MANY = People(protected=12, gallery_photos=2, probe_photos=6)
"""More users with fewer photos of each: intervals take people for the sample."""


def _without(family: str) -> tuple[str, ...]:
    """The default ensemble without a family of recognizers."""
    return tuple(name for name in DEFAULT_ENSEMBLE if name not in FAMILIES[family])


_WITHOUT_DLIB = _without("dlib")
_SIGNED = LowKey(step_size=0.0018, alpha=0.03, smoothing="alternate", mirror=False)
_STRENGTHS: dict[str, LowKey] = {
    **{name: PRESETS[name] for name in ("low", "medium", "high")},
    "signed, in color": _SIGNED,  # what `medium` was until strengths were chosen on this frontier
    "literal": LITERAL,
}
_APART = PRESETS["medium"].model_copy(update={"apart": APART})
_CELLS: dict[str, dict[str, Any]] = {
    "gallery protected": {},
    "probes protected": {"gallery_protected": False, "probes_protected": True},
    "both protected": {"probes_protected": True},
    "gallery protected but for one old photo": {"old_photos": 1},
    "both protected but for one old photo": {"old_photos": 1, "probes_protected": True},
}
_ONE = DEFAULT_ENSEMBLE[:1]
_OWN, _TIMES = 48, 100  # photos that a defender protects itself, to learn from; how many times that with GPUs
_FEW: dict[str, Any] = {
    "recognizers": ("mobilefacenet-192", "mobileface"),
    "defenders": ("mobilefacenet-192", "mobileface"),
}


def _matrix(
    name: str,
    title: str,
    question: str,
    source: str,
    published: Mapping[str, str],
    people: People,
    attack: LowKey,
    paper: People,
    *,
    beside: LowKey | None = None,
    fawkes: Mapping[str, Fawkes] = MappingProxyType({}),
    **small: Any,
) -> Study[Transfer, Row]:
    """A study of attackers against defenders."""
    literal = LITERAL.model_copy(update={"alpha": attack.alpha})
    return Study(
        name=name,
        title=title,
        question=question,
        source=source,
        presets={
            "smoke": smoke(attack, fawkes),
            "small": Transfer(people=people, attack=attack, beside=beside, fawkes=dict(fawkes), **small),
            "paper": Transfer(people=paper, attack=literal, beside=beside and LITERAL, fawkes=dict(fawkes)),
        },
        trials=transfer.trials,
        run=run_row,
        tables=partial(transfer.tables, published=published),
        figures=transfer.figures,
        differences=transfer.differences,
        rehearsal=transfer.rehearsal,
        resolve=resolve,
        data=attrgetter("people.data"),
    )


def _rows(
    name: str,
    title: str,
    question: str,
    source: str,
    rows: Mapping[str, Variation],
    *,
    published: Mapping[str, str] | None = None,
    also: Sequence[str] = (),
    figures: Callable[..., Any] = no_figures,
    small: Mapping[str, Any] = MappingProxyType({}),
    only_paper: Collection[str] = (),
    **settings: Any,
) -> Study[Variations, Row]:
    """A study of rows that differ in one thing.

    Args:
        name: of the study, as are the others.
        title: see `Study`.
        question: see `Study`.
        source: see `Study`.
        rows: what differs, by the names of rows.
        published: the dissertation's tables by our metric.
        also: its tables that no metric of ours corresponds to.
        figures: see `Study`.
        small: settings that only two cores make necessary.
        only_paper: rows for which two cores have no time.
        settings: of all presets.
    """
    literal = {row: _published_size(variation) for row, variation in rows.items()}
    fewer = {row: variation for row, variation in rows.items() if row not in only_paper}
    at_hand = Variations(**{"rows": fewer, **settings, **small})
    return Study(
        name=name,
        title=title,
        question=question,
        source=source,
        presets={
            "smoke": variations.rehearsal(at_hand).model_copy(update=_FEW | {"people": tiny()}),
            "small": at_hand,
            "paper": Variations(**{"people": FACESCRUB, "attack": LITERAL, "rows": literal, **settings}),
        },
        trials=variations.trials,
        run=run_row,
        tables=partial(variations.tables, published=dict(published or {}), also=tuple(also)),
        figures=figures,
        differences=variations.differences,
        rehearsal=variations.rehearsal,
        resolve=resolve,
        data=attrgetter("people.data"),
    )


def _published_size(variation: Variation) -> Variation:
    """A row as the dissertation would have run it, but for what it varies; defenders who train have far more photos."""
    trained = {name: _TIMES * getattr(variation, name) for name in ("adapted_on", "retrained_on", "purified_on")}
    if not isinstance(variation.attack, LowKey) or variation.attack.step_rule != "sign":  # Fawkes, or on faces only
        return variation.model_copy(update=trained)
    smoothing = "both" if variation.attack.smoothing == "alternate" else variation.attack.smoothing
    attack = variation.attack.model_copy(update={"smoothing": smoothing, "mirror": True, "canvas": "photo"})
    return variation.model_copy(update=trained | {"attack": attack})


def _fast(**changes: Any) -> LowKey:
    return FAST.model_copy(update=changes)


CHAPTER_3: tuple[Study[Any, Any], ...] = (
    _matrix(
        "lowkey-transfer",
        "Does protection against one recogniser hold against others?",
        "How often does each recogniser still find people whose photos were protected against another?",
        "tables 3.2 and 3.5",
        {"rank-1": "3.5", "rank-50": "3.2"},
        People(),
        FAST,
        FACESCRUB,
        fawkes={"Fawkes, high": MODES["high"]},
        fawkes_on=_ONE,
    ),
    _matrix(
        "lowkey-second-dataset",
        "The same on a second data set",
        "Does what holds on one data set hold on another?",
        "tables 3.6 and 3.7",
        {"rank-1": "3.7", "rank-50": "3.6"},
        CELEB18,
        FAST,
        UMDFACES,
        attackers=("mobilefacenet-512", "faceres", "dlib-resnet"),
        ensembles={"Ensemble": DEFAULT_ENSEMBLE},
    ),
    _matrix(
        "lowkey-small",
        "A smaller perturbation",
        "What is left of the protection when LPIPS weighs 0.08 instead of 0.05?",
        "tables 3.8 and 3.9",
        {"rank-1": "3.9", "rank-50": "3.8"},
        People(),
        _fast(alpha=0.08),
        FACESCRUB,
        beside=FAST,
        attackers=("mobilefacenet-512",),
        ensembles={"Ensemble": DEFAULT_ENSEMBLE},
        gallery_photos=7,
    ),
    _rows(
        "lowkey-smoothing",
        "Gaussian smoothing in the attack",
        "Does an attack that sees smoothed photos survive a defender who smooths them?",
        "tables 3.3 and 3.10",
        {
            CLEAN: Variation(protected=False, preprocessing="blur σ 2"),
            "Without GS": Variation(attack=_fast(smoothing="none"), preprocessing="blur σ 2"),
            "With GS": Variation(preprocessing="blur σ 2"),
            "Without GS, no blur": Variation(attack=_fast(smoothing="none")),
            "With GS, no blur": Variation(),
        },
        published={"rank-1": "3.10", "rank-50": "3.3"},
        small={"people": SMALL_TOWN},
    ),
    _rows(
        "lowkey-compression",
        "Compression",
        "Does the protection survive the formats in which photos are shared?",
        "section 3.6.4",
        {
            CLEAN: Variation(protected=False),
            "PNG": Variation(),
            **{name: Variation(saved=name) for name in ("JPEG 95", "JPEG 90", "JPEG 75", "JPEG 50", "WebP 80")},
        },
        also=("3.6.4",),
    ),
    _rows(
        "lowkey-full-size",
        "Strength by steps, size of the gallery, small probes",
        "How many steps does protection take, and do fewer photos or smaller probes help?",
        "table 3.4 and section 3.6.5",
        {
            "Clean": Variation(protected=False),
            **{f"LowKey {steps}": Variation(attack=_fast(steps=steps)) for steps in (10, 20, 30, 40, 50)},
            "Clean, 5 gallery photos": Variation(protected=False, gallery_photos=5),
            "LowKey 50, 5 gallery photos": Variation(gallery_photos=5),
            "Clean, small probes": Variation(protected=False, probes="quarter size and back"),
            "LowKey 50, small probes": Variation(probes="quarter size and back"),
        },
        also=("3.4", "3.6.5"),
        figures=variations.frontier_figures,
        only_paper=("LowKey 30", "LowKey 40"),
    ),
    _rows(
        "lowkey-adversary",
        "Defenders who fight back",
        "Who still finds people by purifying photos, aligning otherwise, training on LowKey, or with protected probes?",
        "beyond the dissertation",
        {
            CLEAN: Variation(protected=False),
            "As it is": Variation(),
            **{
                f"Purified: {name}": Variation(preprocessing=name)
                for name in ("JPEG 50", "blur σ 2", "median 5", "half size and back")
            },
            f"Purified by a network ({_OWN} pairs)": Variation(purified_on=_OWN),
            f"{CLEAN}, aligned by the box alone": Variation(protected=False, aligner="box"),
            "Aligned by the box alone": Variation(aligner="box"),
            f"{CLEAN}, landmarks shifted by 5 %": Variation(protected=False, aligner="shifted"),
            "Landmarks shifted by 5 %": Variation(aligner="shifted"),
            "1 recogniser": Variation(recognizers=_ONE),
            "1 recogniser, probes protected too": Variation(recognizers=_ONE, probes_protected=True),
            "1 recogniser, a layer trained": Variation(recognizers=_ONE, adapted_on=_OWN),
            "1 recogniser, its network trained": Variation(recognizers=_ONE, retrained_on=_OWN, defenders=_ONE),
        },
        small={"people": SMALL_TOWN, "attack": PRESETS["medium"]},
    ),
    _rows(
        "lowkey-frontier",
        "Protection against price",
        "How much must a photo change before recognizers whose family was not attacked lose its owner?",
        "beyond the dissertation",
        {
            CLEAN: Variation(protected=False),
            **{
                f"{name}, without {family}": Variation(attack=attack, recognizers=_without(family))
                for family in ("dlib", "FaceRes", "MobileFaceNet")
                for name, attack in _STRENGTHS.items()
            },
            "literal, α 0.08, without FaceRes": Variation(
                attack=LITERAL.model_copy(update={"alpha": 0.08}), recognizers=_without("FaceRes")
            ),
            "literal, α 0.2, without FaceRes": Variation(
                attack=LITERAL.model_copy(update={"alpha": 0.2}), recognizers=_without("FaceRes")
            ),
            **{
                f"Fawkes, {name}, without {family}": Variation(attack=MODES[name], recognizers=_without(family))
                for family in ("dlib", "FaceRes", "MobileFaceNet")
                for name in ("mid", "high")
            },
        },
        figures=partial(variations.frontier_figures, left_out=True),
        small={"people": MANY},
        only_paper=(
            *(f"literal, α {alpha}, without FaceRes" for alpha in ("0.08", "0.2")),
            *(f"Fawkes, high, without {family}" for family in ("dlib", "FaceRes", "MobileFaceNet")),
        ),
    ),
    _rows(
        "lowkey-apart",
        "Several photos of one person",
        "Who finds people when the probe is protected too, with and without directions of their own?",
        "beyond the dissertation",
        {
            CLEAN: Variation(protected=False),
            **{
                f"{name}, {which}": Variation(attack=attack, **cell)
                for name, attack in (("medium", PRESETS["medium"]), ("medium, apart", _APART))
                for which, cell in _CELLS.items()
            },
        },
        small={"people": MANY},
    ),
    _rows(
        "lowkey-ablation",
        "What each part buys",
        "What happens without LPIPS, smoothing or antialiasing, with fewer recognisers, with the whole photo?",
        "beyond the dissertation",
        {
            "All parts": Variation(),
            "1 recogniser": Variation(recognizers=_WITHOUT_DLIB[:1]),
            "2 recognisers": Variation(recognizers=_WITHOUT_DLIB[1:]),
            "Without LPIPS": Variation(attack=_fast(alpha=0.0)),
            "Plain bilinear warp": Variation(attack=_fast(antialias=False)),
            "Without smoothing": Variation(attack=_fast(smoothing="none")),
            "Smoothed and not at each step": Variation(attack=_fast(smoothing="both")),
            "With the mirrored face": Variation(attack=_fast(mirror=True)),
            "Whole photo": Variation(attack=_fast(canvas="photo")),
        },
        figures=partial(variations.frontier_figures, left_out=True),
        recognizers=_WITHOUT_DLIB,
        small={"gallery_photos": 2},
        only_paper=("2 recognisers",),
    ),
)
"""All of them, in the chapter's order."""
