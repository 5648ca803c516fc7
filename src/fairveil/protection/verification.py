"""The receipt: who still recognizes a protected face, how much the photo changed, and what that was measured on."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from kornia.filters import gaussian_blur2d
from pydantic import BaseModel, ConfigDict, Field, computed_field
from torch import Tensor

from fairveil.base.errors import FairveilError, NoFaceError
from fairveil.base.threads import one_thread
from fairveil.faces.by_hand import FramedFaces
from fairveil.faces.canvas import CONTEXT, Canvas, view_of_face
from fairveil.faces.detection import Detector, Faces
from fairveil.faces.recognizers import Framing, Recognizer
from fairveil.faces.zoo import DEFAULT_ENSEMBLE, ZOO, recognizers_of
from fairveil.images import resaved
from fairveil.protection.perceptual import LPIPS, delta_chroma, delta_e, psnr, ssim
from fairveil.protection.protecting import PictureOrPath, landmarks_now, opened, pixels_of
from fairveil.report.display import DisplayMixin
from fairveil.version import __version__

CAUTION = (
    "Measured on the recognizers named here and on nothing else. Recognizers trained later, or hardened on purpose "
    "against perturbations like these, may still match the face, and photos already online stay recognizable."
)


class FaceComparison(BaseModel):
    """One recognizer's view of one pair of faces.

    Attributes:
        recognizer: its name.
        attacked: whether the attack used it; otherwise it was held out.
        threshold: the similarity from which it says "the same person"; None if nobody measured it.
        condition: what happened to the protected photo before it was looked at.
        similarity: the cosine between the two faces.
        before: the cosine before protection: 1 for the original against itself.
    """

    model_config = ConfigDict(frozen=True)

    recognizer: str
    attacked: bool
    threshold: float | None
    condition: str
    similarity: float
    before: float

    @computed_field  # type: ignore[prop-decorator]
    @property
    def matches(self) -> bool | None:
        """Whether the recognizer still takes the two for one person; None if its threshold is not known."""
        return None if self.threshold is None else self.similarity >= self.threshold

    @computed_field  # type: ignore[prop-decorator]
    @property
    def matched_before(self) -> bool | None:
        """Whether it took them for one person before protection; None if its threshold is not known."""
        return None if self.threshold is None else self.before >= self.threshold


class Quality(BaseModel):
    """How much the square around a face changed.

    Attributes:
        lpips: with AlexNet, at up to 224 pixels; this is what the attack paid for.
        lpips_vgg: with VGG-16, which the attack never saw.
        ssim: structural similarity at full resolution, 1 for equal.
        psnr: peak signal-to-noise ratio at full resolution, in dB; None for equal pictures.
        delta_e: mean color difference ΔE*ab at full resolution; 1 is just noticeable between plain patches. None in
            receipts of older versions.
        delta_chroma: the part of it that is color and not lightness; None likewise.
    """

    model_config = ConfigDict(frozen=True)

    lpips: float
    lpips_vgg: float
    ssim: float
    psnr: float | None
    delta_e: float | None = None
    delta_chroma: float | None = None


class FaceReceipt(BaseModel):
    """What was measured for one face of the original.

    Attributes:
        box: x0, y0, x1, y1 in pixels of the original.
        found: whether the detector still finds the face in the protected photo.
        by_hand: whether a person framed the face, since the detector did not find it in the original either.
        quality: how much the face and its surroundings changed.
        against_itself: the protected face against the original one, under every condition.
        against_probes: by the probe's name, the protected face against the closest face of that photo.
    """

    model_config = ConfigDict(frozen=True)

    box: tuple[float, float, float, float]
    found: bool
    # It came later, and is written only where it is not the default: older receipts stay valid.
    by_hand: bool = Field(False, exclude_if=lambda by_hand: not by_hand)
    quality: Quality
    against_itself: tuple[FaceComparison, ...]
    against_probes: dict[str, tuple[FaceComparison, ...]]

    @property
    def conditions(self) -> tuple[str, ...]:
        """What happened to the protected photo before it was looked at, in the order of `against_itself`."""
        return tuple(dict.fromkeys(comparison.condition for comparison in self.against_itself))


class ReceiptFile(BaseModel):
    """A file that a receipt speaks of.

    Attributes:
        role: what it was in the measurement.
        name: what it is called.
        sha256: of its content.
    """

    model_config = ConfigDict(frozen=True)

    role: Literal["original", "protected", "probe"]
    name: str
    sha256: str


class Receipt(DisplayMixin, BaseModel):
    """Everything `verify` measured.

    Attributes:
        date: when, in ISO format with the time zone.
        version: of fairveil.
        faces: one entry per face of the original, largest first.
        thresholds: where each recognizer's threshold comes from.
        probes_without_face: names of the probes in which no face was found.
        remarks: what has to be known first, in sentences, such as that a photo was compared with itself.
        files: which files the photos came from, where they came from files.
        caution: what the figures do not say.
    """

    model_config = ConfigDict(frozen=True)

    date: str
    version: str
    faces: tuple[FaceReceipt, ...]
    thresholds: dict[str, str]
    probes_without_face: tuple[str, ...]
    remarks: tuple[str, ...] = Field(default=(), exclude_if=lambda remarks: not remarks)
    files: tuple[ReceiptFile, ...] = ()
    caution: str = CAUTION

    def _rows(self) -> Iterator[dict[str, Any]]:
        for number, face in enumerate(self.faces, start=1):
            compared = [("", face.against_itself), *face.against_probes.items()]
            for probe, comparisons in compared:
                for one in comparisons:
                    yield {"face": number, "probe": probe, **one.model_dump()}


_GUESSED = "Which recognizers were attacked was not said: the default ensemble is taken for attacked (see `attacked`)."


@one_thread()
def verify(
    original: PictureOrPath,
    protected: PictureOrPath,
    recognizers: Sequence[Recognizer | str] | None = None,
    *,
    attacked: Collection[str] | None = None,
    probes: Mapping[str, PictureOrPath] | None = None,
    detector: Detector | None = None,
    faces: Faces | FramedFaces | None = None,
    on_look: Callable[[int, int], None] = lambda done, total: None,
) -> Receipt:
    """Measure what a protection achieved and what it cost; networks have one thread, as where photos are protected.

    Args:
        original: the photo as it was: a Pillow image with 8 bits a channel, a uint8 array (H, W, 3), a uint8 tensor
            (3, H, W), or the path of a photo.
        protected: the photo as it is now, likewise, of the same size.
        recognizers: who looks at it, themselves or their names in the zoo; by default all of the zoo.
        attacked: names of those the attack used, such as a record's `recognizers`; all others count as held out. If
            they are not given, the default ensemble is taken for attacked, and the receipt says so.
        probes: other photos of the same people, by name, likewise.
        detector: finds the faces; by default MTCNN for faces of 24 pixels and more.
        faces: those of the original to measure, as they were found before, or some of them framed by hand; by default
            all that are found.
        on_look: called with (looks done, looks in all) as the work goes on; each recognizer has one at each face.

    Raises:
        FairveilError: a picture is of another kind, the photos differ in size, there is no recognizer or two have one
            name, `attacked` is a single name, or a recognizer gives no usable vectors.
        NoFaceError: the original shows no face.
        UnreadableFileError: there is no photo at a path that can be read.
    """
    recognizers = recognizers_of(ZOO if recognizers is None else recognizers)
    if isinstance(attacked, str):
        raise FairveilError(f"`attacked` is the name {attacked!r}: give a list of the names of all that were attacked.")
    unsaid = () if attacked is not None else (_GUESSED,)
    attacked = DEFAULT_ENSEMBLE if attacked is None else attacked
    was, now = (pixels_of(opened(photo), "verify") for photo in (original, protected))
    others = {name: pixels_of(opened(photo), "verify") for name, photo in (probes or {}).items()}
    if was.shape != now.shape:
        raise FairveilError(
            f"The original is {was.shape[2]}×{was.shape[1]} pixels and the protected photo "
            f"{now.shape[2]}×{now.shape[1]}: compare a photo with its own protected version, same size."
        )
    detector = detector or Detector.pretrained()
    faces = detector.detect([was])[0] if faces is None else faces
    choice = faces if isinstance(faces, FramedFaces) else FramedFaces.of(faces)
    before = choice.faces
    after = detector.detect([now])[0]
    if not len(before):
        raise NoFaceError("No face was found in the original photo, so there is nothing to recognize in it.")
    found = {name: detector.detect([photo])[0] for name, photo in others.items()}
    probe_embeddings = _embed_probes(others, found, recognizers)

    def advance(earlier: int, looks: int) -> None:
        on_look(earlier + looks, len(before) * len(recognizers))

    measured = tuple(
        _verify_face(
            was,
            now,
            before[[i]],
            choice.frames[i] is not None,
            after,
            recognizers,
            attacked,
            probe_embeddings,
            partial(advance, i * len(recognizers)),
        )
        for i in range(len(before))
    )
    return Receipt(
        date=datetime.now().astimezone().isoformat(timespec="seconds"),
        version=__version__,
        faces=measured,
        thresholds={
            r.name: f"{r.threshold.similarity:.3f}: {r.threshold.measured_on}" if r.threshold else "not known"
            for r in recognizers
        },
        probes_without_face=tuple(name for name, theirs in found.items() if not len(theirs)),
        remarks=(
            *_remarks(was, now, others, measured, _copies(was, before, others, found)),
            *unsaid,
        ),
    )


_OTHER_PICTURE = 18.0
"""PSNR of a face, in dB, below which a photo is no protected version of another: LowKey leaves 25 and more, while
faces of two people, aligned, come to about 12."""


_SAME_PICTURE = 19.0
"""PSNR of two aligned gray faces, in dB, from which they are one picture: copies of photos of `lfw10` (JPEG of quality
40, half and 1.6 times the size, cropped, mirrored, gray) come to 19.2 and more, other photos of the people to 18.6."""

_UNTOUCHED = 33.0
"""PSNR of a face, in dB, from which saving it anew explains what changed, if recognizers see no other face either."""

_SAME_FACE = 0.9
"""The similarity from which a recognizer sees no other face: saving it anew leaves 0.95 and more."""


def _remarks(
    original: Tensor,
    protected: Tensor,
    probes: Mapping[str, Tensor],
    faces: Sequence[FaceReceipt],
    copies: Collection[str],
) -> Iterator[str]:
    """What makes the figures say something else than one would think; `copies` are probes that show the original."""
    if torch.equal(original, protected):
        yield "Both photos are the same, pixel for pixel: nothing in them was protected."
    elif faces and all(map(_is_untouched, faces)):
        yield (
            "The second photo is the first one but for what saving it anew changes, and every recognizer sees the same "
            "face in both: nothing in it seems to be protected."
        )
    other = [number for number, face in enumerate(faces, start=1) if (face.quality.psnr or 99.0) < _OTHER_PICTURE]
    if other:
        which = "" if len(faces) == 1 else f" at face {', '.join(map(str, other))}"
        yield (
            f"The second photo does not look like a protected version of the first{which}, but like another picture, "
            "perhaps of somebody else: the figures do not say what protection did."
        )
    for name, photo in probes.items():
        if torch.equal(photo, original) or torch.equal(photo, protected):
            which = "original" if torch.equal(photo, original) else "protected photo"
            yield f"{name} is the {which} itself: it does not say what another photo of the person would."
        elif name in copies:
            yield (
                f"{name} seems to be the original once more, saved anew, at another size, or mirrored: it does not say "
                "what another photo of the person would."
            )
        elif votes := [v for face in faces if (v := _knows(face.against_probes.get(name, ())))]:
            knowing, asked = max(votes, key=lambda vote: vote[0])
            if 2 * knowing < asked:
                yield (
                    f"{name} seems to show somebody else: only {knowing} of {asked} recognizers match it to the "
                    "original, before any protection. Give another photo of the same person."
                )


def _knows(comparisons: Sequence[FaceComparison]) -> tuple[int, int] | None:
    """How many recognizers matched a face to a probe before protection, of how many whose threshold is known."""
    known = [comparison.matched_before for comparison in comparisons if comparison.matched_before is not None]
    return (sum(known), len(known)) if known else None


def _is_untouched(face: FaceReceipt) -> bool:
    seen = [comparison.similarity for comparison in face.against_itself if comparison.condition == AS_SAVED]
    return (face.quality.psnr or _UNTOUCHED) >= _UNTOUCHED and min(seen, default=0.0) >= _SAME_FACE


def _copies(original: Tensor, faces: Faces, probes: Mapping[str, Tensor], found: Mapping[str, Faces]) -> set[str]:
    """Names of the probes that show a face in the very picture of it that the original has."""
    own = _aligned(original, faces) if probes else []
    return {
        name
        for name, photo in probes.items()
        for theirs in _aligned(photo, found[name])
        if any(psnr(mine[None], seen[None]) >= _SAME_PICTURE for mine in own for seen in (theirs, theirs.flip(-1)))
    }


def _aligned(photo: Tensor, faces: Faces) -> list[Tensor]:
    """Aligned faces in gray, as a copy may be, each (1, size, size) in [0, 1]."""
    return [Framing().crop(*view_of_face(photo, points))[0].mean(0, keepdim=True) for points in faces.landmarks]


@torch.no_grad()
def _embed_probes(
    probes: Mapping[str, Tensor], found: Mapping[str, Faces], recognizers: Sequence[Recognizer]
) -> dict[str, dict[str, Tensor]]:
    """Embeddings (F, D) of all faces of each probe that shows any, under each recognizer."""
    embeddings: dict[str, dict[str, Tensor]] = {}
    for name, photo in probes.items():
        if len(found[name]):
            views = [view_of_face(photo, points) for points in found[name].landmarks]
            embeddings[name] = {r.name: torch.cat([r.embed(*view) for view in views]) for r in recognizers}
    return embeddings


@torch.no_grad()
def _verify_face(
    original: Tensor,
    protected: Tensor,
    face: Faces,
    by_hand: bool,
    faces_after: Faces,
    recognizers: Sequence[Recognizer],
    attacked: Collection[str],
    probes: Mapping[str, Mapping[str, Tensor]],
    on_recognizer: Callable[[int], None],
) -> FaceReceipt:
    landmarks, found = landmarks_now(face.boxes[0], face.landmarks[0], faces_after)
    clean_view, protected_view = view_of_face(original, face.landmarks[0]), view_of_face(protected, landmarks)
    looks = {condition: alter(*protected_view) for condition, alter in CONDITIONS.items()}

    itself: list[FaceComparison] = []
    against: dict[str, list[FaceComparison]] = {name: [] for name in probes}
    for number, recognizer in enumerate(recognizers):
        clean = recognizer.embed(*clean_view)[0]
        for condition, look in looks.items():
            embedding = recognizer.embed(*look)[0]
            compare = partial(
                FaceComparison,
                recognizer=recognizer.name,
                attacked=recognizer.name in attacked,
                threshold=recognizer.threshold.similarity if recognizer.threshold else None,
                condition=condition,
            )
            itself.append(compare(similarity=float(embedding @ clean), before=1.0))
            if condition == AS_SAVED:
                for name, by_recognizer in probes.items():
                    others = by_recognizer[recognizer.name]
                    now, then = float((others @ embedding).max()), float((others @ clean).max())
                    against[name].append(compare(similarity=now, before=then))
        on_recognizer(number + 1)
    return FaceReceipt(
        box=tuple(face.boxes[0].tolist()),
        found=found,
        by_hand=by_hand,
        quality=quality_of_face(original, protected, face.landmarks[0]),
        against_itself=tuple(itself),
        against_probes={name: tuple(comparisons) for name, comparisons in against.items()},
    )


def quality_of_face(original: Tensor, protected: Tensor, landmarks: Tensor) -> Quality:
    """How much a face and its surroundings changed, from two photos (3, H, W), uint8, and its landmarks (5, 2)."""
    canvas = Canvas.around_face(landmarks, margin=CONTEXT, largest=224)
    small = canvas.cut(original)[None], canvas.cut(protected)[None]
    full = Canvas.around_face(landmarks, margin=CONTEXT, largest=max(original.shape))
    large = full.cut(original)[None], full.cut(protected)[None]
    noise_ratio = float(psnr(*large))
    return Quality(
        lpips=float(LPIPS.pretrained("alexnet")(*small)),
        lpips_vgg=float(LPIPS.pretrained("vgg16")(*small)),
        ssim=float(ssim(*large)),
        psnr=noise_ratio if np.isfinite(noise_ratio) else None,
        delta_e=float(delta_e(*large)),
        delta_chroma=float(delta_chroma(*large)),
    )


def _jpeg(quality: int) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    def alter(view: Tensor, landmarks: Tensor) -> tuple[Tensor, Tensor]:
        decoded = resaved((view[0] * 255).round().byte(), format="JPEG", quality=quality)
        return (decoded[None] / 255).to(view), landmarks

    return alter


def _blur(view: Tensor, landmarks: Tensor) -> tuple[Tensor, Tensor]:
    """Section 3.8.6: the defender's σ is 2, with no window; three σ to either side hold all of it."""
    return gaussian_blur2d(view, (13, 13), (2.0, 2.0)), landmarks


def _halve(view: Tensor, landmarks: Tensor) -> tuple[Tensor, Tensor]:
    small = F.interpolate(view, scale_factor=0.5, mode="bilinear", antialias=True)
    ratio = landmarks.new_tensor([small.shape[3] / view.shape[3], small.shape[2] / view.shape[2]])
    return small, (landmarks + 0.5) * ratio - 0.5


AS_SAVED = "as saved"

CONDITIONS: Mapping[str, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    AS_SAVED: lambda view, landmarks: (view, landmarks),
    "JPEG 90": _jpeg(90),
    "JPEG 75": _jpeg(75),
    "blur σ 2": _blur,
    "half size": _halve,
}
"""What may happen to a photo on its way to a recognizer, by name: each maps a view and its landmarks to others."""
