"""Interventions for fairer networks, and the test of whether they worked (chapter 6).

In any training loop:

    from fairveil.fair import equal_loss
    losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    loss = losses.mean() + 1.0 * equal_loss(losses, groups)
"""

from typing import TYPE_CHECKING

from fairveil.base.lazy import lazy_exports

if TYPE_CHECKING:
    from fairveil.data.xrays import SyntheticXrays as SyntheticXrays
    from fairveil.data.xrays import read_xrays as read_xrays
    from fairveil.fair.adversarial import Removal as Removal
    from fairveil.fair.adversarial import remove_sensitive as remove_sensitive
    from fairveil.fair.comparing import Comparison as Comparison
    from fairveil.fair.comparing import compare as compare
    from fairveil.fair.face_experiment import FaceExperiment as FaceExperiment
    from fairveil.fair.face_experiment import FaceSettings as FaceSettings
    from fairveil.fair.face_splits import FaceSplits as FaceSplits
    from fairveil.fair.face_splits import split_faces as split_faces
    from fairveil.fair.interventions import KINDS as KINDS
    from fairveil.fair.interventions import everything as everything
    from fairveil.fair.interventions import intervention as intervention
    from fairveil.fair.label_flipping import flip_identities as flip_identities
    from fairveil.fair.label_flipping import flip_labels as flip_labels
    from fairveil.fair.margins import angles as angles
    from fairveil.fair.penalties import disparate_impact as disparate_impact
    from fairveil.fair.penalties import equal_loss as equal_loss
    from fairveil.fair.penalties import equalized_odds as equalized_odds
    from fairveil.fair.penalties import worst_group_loss as worst_group_loss
    from fairveil.fair.xray_classifier import XraySettings as XraySettings
    from fairveil.fair.xray_classifier import load_xray_classifier as load_xray_classifier
    from fairveil.fair.xray_experiment import XrayExperiment as XrayExperiment
    from fairveil.fair.xray_experiment import XraySplits as XraySplits
    from fairveil.fair.xray_experiment import split_xrays as split_xrays

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "fairveil.data.xrays": "SyntheticXrays read_xrays",
        "adversarial": "Removal remove_sensitive",
        "comparing": "Comparison compare",
        "face_splits": "FaceSplits split_faces",
        "xray_experiment": "XrayExperiment XraySplits split_xrays",
        "interventions": "KINDS everything intervention",
        "label_flipping": "flip_identities flip_labels",
        "margins": "angles",
        "penalties": "disparate_impact equal_loss equalized_odds worst_group_loss",
        "face_experiment": "FaceExperiment FaceSettings",
        "xray_classifier": "XraySettings load_xray_classifier",
    },
)
