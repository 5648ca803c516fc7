"""The studies of chapter 3, each a name, settings and the dissertation's tables it stands beside."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from fairveil.faces.zoo import DEFAULT_ENSEMBLE
from fairveil.protection.lowkey import PRESETS, LowKey
from fairveil.studies.lowkey import transfer, variations
from fairveil.studies.lowkey.people import People
from fairveil.studies.lowkey.rows import Row, run_row
from fairveil.studies.lowkey.transfer import CLEAN, FAST, Transfer, smoke, tiny
from fairveil.studies.lowkey.variations import Variation, Variations
from fairveil.studies.study import Study, no_figures

LITERAL = LowKey(canvas="photo")
"""The dissertation's algorithm as it was published, on the whole photo."""

FACESCRUB = People(data="facescrub", protected=100, gallery_photos=None, probe_photos=None, photos_of_stranger=None)
"""Section 3.4: 100 users, a tenth of their photos as probes. `--set people.data=FOLDER` says where FaceScrub is."""

UMDFACES = FACESCRUB.model_copy(update={"data": "umdfaces"})
"""Section 3.8.3."""

CELEB18 = People(data="celeb18", faces="aligned", protected=4, photos_of_stranger=100)
"""The second data set at hand: aligned crops of 18 people."""

_WITHOUT_DLIB = tuple(name for name in DEFAULT_ENSEMBLE if name != "dlib-resnet")
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
    **small: Any,
) -> Study[Transfer, Row]:
    """A study of attackers against defenders."""
    return Study(
        name=name,
        title=title,
        question=question,
        source=source,
        presets={
            "smoke": smoke(attack),
            "small": Transfer(people=people, attack=attack, **small),
            "paper": Transfer(people=paper, attack=LITERAL.model_copy(update={"alpha": attack.alpha})),
        },
        trials=transfer.trials,
        run=run_row,
        tables=partial(transfer.tables, published=published),
        figures=transfer.figures,
        differences=transfer.differences,
        rehearsal=transfer.rehearsal,
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
    **settings: Any,
) -> Study[Variations, Row]:
    """A study of rows that differ in one thing."""
    small = Variations(rows=dict(rows), **settings)
    literal = {
        row: variation.model_copy(update={"attack": variation.attack and _literal(variation.attack)})
        for row, variation in rows.items()
    }
    return Study(
        name=name,
        title=title,
        question=question,
        source=source,
        presets={
            "smoke": variations.rehearsal(small).model_copy(update=_FEW | {"people": tiny()}),
            "small": small,
            "paper": small.model_copy(update={"people": FACESCRUB, "attack": LITERAL, "rows": literal}),
        },
        trials=variations.trials,
        run=run_row,
        tables=partial(variations.tables, published=dict(published or {}), also=tuple(also)),
        figures=figures,
        differences=variations.differences,
        rehearsal=variations.rehearsal,
    )


def _literal(attack: LowKey) -> LowKey:
    """An attack as the dissertation would have run it, but for what the row varies."""
    smoothing = "both" if attack.smoothing == "alternate" else attack.smoothing
    return attack.model_copy(update={"smoothing": smoothing, "mirror": True, "canvas": "photo"})


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
        attackers=("mobilefacenet-512", "faceres", "dlib-resnet"),
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
            "LowKey 50, 5 gallery photos": Variation(gallery_photos=5),
            "LowKey 50, small probes": Variation(probes="quarter size and back"),
        },
        also=("3.4", "3.6.5"),
        figures=variations.frontier_figures,
    ),
    _rows(
        "lowkey-adversary",
        "Defenders who fight back",
        "Who still finds people when photos are purified, when probes are protected too, or when it has LowKey itself?",
        "beyond the dissertation",
        {
            CLEAN: Variation(protected=False),
            "As it is": Variation(),
            **{
                f"Purified: {name}": Variation(preprocessing=name)
                for name in ("JPEG 50", "blur σ 2", "median 5", "half size and back")
            },
            "Protected probes": Variation(probes_protected=True),
            "Adapted on 120 protected photos": Variation(adapted_on=120),
        },
        attack=PRESETS["medium"],
    ),
    _rows(
        "lowkey-frontier",
        "Protection against price",
        "How much must a photo change before recognisers that were not attacked lose its owner?",
        "beyond the dissertation",
        {
            **{f"ours, {name}": Variation(attack=PRESETS[name]) for name in ("low", "medium", "high")},
            **{
                f"literal, α {alpha}": Variation(attack=LowKey(alpha=alpha, canvas="photo"))
                for alpha in (0.05, 0.08, 0.2)
            },
            "ours, medium, 1 recogniser": Variation(attack=PRESETS["medium"], recognizers=_WITHOUT_DLIB[:1]),
            "ours, medium, 2 recognisers": Variation(attack=PRESETS["medium"], recognizers=_WITHOUT_DLIB[1:]),
        },
        figures=variations.frontier_figures,
        recognizers=_WITHOUT_DLIB,
        defenders=("dlib-resnet", "faceres-deep", "mobileface"),
        people=People(protected=4, gallery_photos=6),
    ),
    _rows(
        "lowkey-ablation",
        "What each part buys",
        "What happens without LPIPS, without smoothing, with fewer recognisers, with the whole photo?",
        "beyond the dissertation",
        {
            "All parts": Variation(),
            "1 recogniser": Variation(recognizers=_WITHOUT_DLIB[:1]),
            "2 recognisers": Variation(recognizers=_WITHOUT_DLIB[1:]),
            "Without LPIPS": Variation(attack=_fast(alpha=0.0)),
            "Without smoothing": Variation(attack=_fast(smoothing="none")),
            "Smoothed and not at each step": Variation(attack=_fast(smoothing="both")),
            "With the mirrored face": Variation(attack=_fast(mirror=True)),
            "Whole photo": Variation(attack=_fast(canvas="photo")),
        },
        figures=variations.frontier_figures,
        recognizers=_WITHOUT_DLIB,
        people=People(protected=4, gallery_photos=6),
    ),
)
"""All of them, in the chapter's order."""
