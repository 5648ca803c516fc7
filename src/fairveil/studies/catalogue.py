"""Every study by its name, and studies of one's own by where they can be imported from."""

from typing import Any

from fairveil.errors import FairveilError, did_you_mean
from fairveil.studies.fairness.face_studies import FACE_STUDIES
from fairveil.studies.fairness.xray_studies import XRAY_STUDIES
from fairveil.studies.imbalance.galleries import GALLERY_IDENTITIES, GALLERY_IMAGES, RANDOM_EXTRACTORS
from fairveil.studies.imbalance.human_agreement import HUMAN_AGREEMENT
from fairveil.studies.imbalance.train_sets import (
    MATCHED_IDENTITIES,
    MATCHED_IMAGES,
    TRAIN_IDENTITIES,
    TRAIN_IMAGES,
    WITHOUT_BALANCED_SAMPLING,
)
from fairveil.studies.lowkey.chapter import CHAPTER_3
from fairveil.studies.lowkey.detection import DETECTION
from fairveil.studies.lowkey.handling import HANDLED
from fairveil.studies.lowkey.runtime import RUNTIME
from fairveil.studies.plugins import imported
from fairveil.studies.poisoning.backdoors import BACKDOOR_DEFENSES, BACKDOOR_RECALL
from fairveil.studies.poisoning.matching import GRADIENT_MATCHING_DEFENSES, TRANSFER_DEFENSES
from fairveil.studies.poisoning.trigger_map import TRIGGER_MAP
from fairveil.studies.study import Study

CHAPTER_4 = (BACKDOOR_DEFENSES, BACKDOOR_RECALL, GRADIENT_MATCHING_DEFENSES, TRIGGER_MAP, TRANSFER_DEFENSES)
CHAPTER_5 = (
    TRAIN_IDENTITIES,
    TRAIN_IMAGES,
    GALLERY_IDENTITIES,
    GALLERY_IMAGES,
    MATCHED_IDENTITIES,
    MATCHED_IMAGES,
    RANDOM_EXTRACTORS,
    WITHOUT_BALANCED_SAMPLING,
    HUMAN_AGREEMENT,
)
CHAPTER_6 = (*FACE_STUDIES, *XRAY_STUDIES)
STUDIES: dict[str, Study[Any, Any]] = {
    study.name: study for study in (*CHAPTER_3, DETECTION, HANDLED, RUNTIME, *CHAPTER_4, *CHAPTER_5, *CHAPTER_6)
}
"""The studies of the dissertation and beyond."""


def find_study(name: str) -> Study[Any, Any]:
    """A study by its name, or one of your own as `package.module:NAME`.

    Raises:
        FairveilError: there is no such study.
    """
    if name in STUDIES:
        return STUDIES[name]
    if ":" in name:
        return _imported(name)
    raise FairveilError(f"There is no study {name!r}.{did_you_mean(name, STUDIES)} There are {', '.join(STUDIES)}.")


def _imported(name: str) -> Study[Any, Any]:
    found = imported(name, "study")
    if not isinstance(found, Study):
        raise FairveilError(f"{name} is a {type(found).__name__}, not a Study.")
    return found
