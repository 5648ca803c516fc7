"""The studies of chapter 3, each a name, settings and the dissertation's tables it stands beside."""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

from fairveil.faces.zoo import DEFAULT_ENSEMBLE, without_family
from fairveil.protection.lowkey import APART, PRESETS, LowKey
from fairveil.protection.paper.fawkes import MODES
from fairveil.protection.paper.people import People
from fairveil.protection.paper.setting import FAST, LITERAL, TWO_RECOGNIZERS, with_steps
from fairveil.protection.paper.transfer import CLEAN, Transfer, TransferStudy
from fairveil.protection.paper.variations import Variation, Variations, VariationStudy

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


_WITHOUT_DLIB = without_family("dlib")
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


def _matrix(
    name: str, title: str, question: str, source: str, published: Mapping[str, str], small: Transfer, paper: People
) -> TransferStudy:
    """A study of attackers against defenders."""
    few = TWO_RECOGNIZERS
    return TransferStudy(
        name=name,
        title=title,
        question=question,
        source=source,
        published=published,
        small=small,
        paper=Transfer(
            people=paper,
            attack=LITERAL.model_copy(update={"alpha": small.attack.alpha}),
            beside=small.beside and LITERAL,
            fawkes=small.fawkes,
        ),
        smoke={
            "attackers": few[:1],
            "ensembles": {"Ensemble": few},
            "defenders": few,
            "attack": with_steps(small.attack, 2),
            "beside": None,
            "fawkes": {name: with_steps(mode, 2) for name, mode in small.fawkes.items()},
            "fawkes_on": few,
        },
    )


def _rows(
    rows: Mapping[str, Variation],
    *,
    small: Mapping[str, Any] = MappingProxyType({}),
    only_paper: Collection[str] = (),
    settings: Mapping[str, Any] = MappingProxyType({}),
    **about: Any,
) -> VariationStudy:
    """A study of rows that differ in one thing.

    Args:
        rows: what differs, by the names of rows.
        small: settings that only two cores make necessary.
        only_paper: rows for which two cores have no time.
        settings: of all presets.
        about: fields of the study.
    """
    literal = {row: _published_size(variation) for row, variation in rows.items()}
    fewer = {row: variation for row, variation in rows.items() if row not in only_paper}
    return VariationStudy(
        small=Variations(**{"rows": fewer, **settings, **small}),
        paper=Variations(**{"people": FACESCRUB, "attack": LITERAL, "rows": literal, **settings}),
        smoke={"recognizers": TWO_RECOGNIZERS, "defenders": TWO_RECOGNIZERS},
        **about,
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


CHAPTER_3: tuple[TransferStudy | VariationStudy, ...] = (
    _matrix(
        "lowkey-transfer",
        "Does protection against one recognizer hold against others?",
        "How often does each recognizer still find people whose photos were protected against another?",
        "tables 3.2 and 3.5",
        {"rank-1": "3.5", "rank-50": "3.2"},
        Transfer(fawkes={"Fawkes, high": MODES["high"]}, fawkes_on=_ONE),
        FACESCRUB,
    ),
    _matrix(
        "lowkey-second-dataset",
        "The same on a second data set",
        "Does what holds on one data set hold on another?",
        "tables 3.6 and 3.7",
        {"rank-1": "3.7", "rank-50": "3.6"},
        Transfer(
            people=CELEB18,
            attackers=("mobilefacenet-512", "faceres", "dlib-resnet"),
            ensembles={"Ensemble": DEFAULT_ENSEMBLE},
        ),
        UMDFACES,
    ),
    _matrix(
        "lowkey-small",
        "A smaller perturbation",
        "What is left of the protection when LPIPS weighs 0.08 instead of 0.05?",
        "tables 3.8 and 3.9",
        {"rank-1": "3.9", "rank-50": "3.8"},
        Transfer(
            attack=_fast(alpha=0.08),
            beside=FAST,
            attackers=("mobilefacenet-512",),
            ensembles={"Ensemble": DEFAULT_ENSEMBLE},
            gallery_photos=7,
        ),
        FACESCRUB,
    ),
    _rows(
        name="lowkey-smoothing",
        title="Gaussian smoothing in the attack",
        question="Does an attack that sees smoothed photos survive a defender who smooths them?",
        source="tables 3.3 and 3.10",
        rows={
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
        name="lowkey-compression",
        title="Compression",
        question="Does the protection survive the formats in which photos are shared?",
        source="section 3.6.4",
        rows={
            CLEAN: Variation(protected=False),
            "PNG": Variation(),
            **{name: Variation(saved=name) for name in ("JPEG 95", "JPEG 90", "JPEG 75", "JPEG 50", "WebP 80")},
        },
        also=("3.6.4",),
    ),
    _rows(
        name="lowkey-full-size",
        title="Strength by steps, size of the gallery, small probes",
        question="How many steps does protection take, and do fewer photos or smaller probes help?",
        source="table 3.4 and section 3.6.5",
        rows={
            "Clean": Variation(protected=False),
            **{f"LowKey {steps}": Variation(attack=_fast(steps=steps)) for steps in (10, 20, 30, 40, 50)},
            "Clean, 5 gallery photos": Variation(protected=False, gallery_photos=5),
            "LowKey 50, 5 gallery photos": Variation(gallery_photos=5),
            "Clean, small probes": Variation(protected=False, probes="quarter size and back"),
            "LowKey 50, small probes": Variation(probes="quarter size and back"),
        },
        also=("3.4", "3.6.5"),
        frontier="every row",
        only_paper=("LowKey 30", "LowKey 40"),
    ),
    _rows(
        name="lowkey-adversary",
        title="Defenders who fight back",
        question="Who still finds people by purifying photos, aligning otherwise, training on LowKey, or with "
        "protected probes?",
        source="beyond the dissertation",
        rows={
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
        name="lowkey-frontier",
        title="Protection against price",
        question="How much must a photo change before recognizers whose family was not attacked lose its owner?",
        source="beyond the dissertation",
        rows={
            CLEAN: Variation(protected=False),
            **{
                f"{name}, without {family}": Variation(attack=attack, recognizers=without_family(family))
                for family in ("dlib", "FaceRes", "MobileFaceNet")
                for name, attack in _STRENGTHS.items()
            },
            "literal, α 0.08, without FaceRes": Variation(
                attack=LITERAL.model_copy(update={"alpha": 0.08}), recognizers=without_family("FaceRes")
            ),
            "literal, α 0.2, without FaceRes": Variation(
                attack=LITERAL.model_copy(update={"alpha": 0.2}), recognizers=without_family("FaceRes")
            ),
            **{
                f"Fawkes, {name}, without {family}": Variation(attack=MODES[name], recognizers=without_family(family))
                for family in ("dlib", "FaceRes", "MobileFaceNet")
                for name in ("mid", "high")
            },
        },
        frontier="left out",
        small={"people": MANY},
        only_paper=(
            *(f"literal, α {alpha}, without FaceRes" for alpha in ("0.08", "0.2")),
            *(f"Fawkes, high, without {family}" for family in ("dlib", "FaceRes", "MobileFaceNet")),
        ),
    ),
    _rows(
        name="lowkey-apart",
        title="Several photos of one person",
        question="Who finds people when the probe is protected too, with and without directions of their own?",
        source="beyond the dissertation",
        rows={
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
        name="lowkey-ablation",
        title="What each part buys",
        question="What happens without LPIPS, smoothing or antialiasing, with fewer recognizers, with the whole photo?",
        source="beyond the dissertation",
        rows={
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
        frontier="left out",
        settings={"recognizers": _WITHOUT_DLIB},
        small={"gallery_photos": 2},
        only_paper=("2 recognisers",),
    ),
)
"""All of them, in the chapter's order."""
