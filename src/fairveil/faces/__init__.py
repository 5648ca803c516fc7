"""Faces: detect, align, embed, identify."""

from typing import TYPE_CHECKING

from fairveil.base.lazy import lazy_exports

if TYPE_CHECKING:
    from fairveil.faces.detection import Detector as Detector
    from fairveil.faces.detection import Faces as Faces
    from fairveil.faces.embedding import embed_faces as embed_faces
    from fairveil.faces.identification import identify as identify
    from fairveil.faces.identification import nearest as nearest
    from fairveil.faces.recognizer_training import train_recognizer as train_recognizer
    from fairveil.faces.recognizers import Framing as Framing
    from fairveil.faces.recognizers import MatchThreshold as MatchThreshold
    from fairveil.faces.recognizers import Recognizer as Recognizer
    from fairveil.faces.searching import Search as Search
    from fairveil.faces.searching import searches as searches
    from fairveil.faces.trained import load_trained as load_trained
    from fairveil.faces.vectors import Embeddings as Embeddings
    from fairveil.faces.zoo import DEFAULT_ENSEMBLE as DEFAULT_ENSEMBLE
    from fairveil.faces.zoo import ZOO as ZOO
    from fairveil.faces.zoo import load_recognizer as load_recognizer

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "detection": "Detector Faces",
        "embedding": "embed_faces",
        "identification": "identify nearest",
        "recognizer_training": "train_recognizer",
        "recognizers": "Framing MatchThreshold Recognizer",
        "searching": "Search searches",
        "trained": "load_trained",
        "vectors": "Embeddings",
        "zoo": "DEFAULT_ENSEMBLE ZOO load_recognizer",
    },
)
