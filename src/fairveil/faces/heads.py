"""Angular margins: from features to logits that ask for more than being nearest to the right identity (section 2.2).

A head has one weight vector an identity; with features and weights on the unit sphere, logits are s·cos θ. A margin
makes the logit of the right identity smaller while training, so that faces of one person end up closer together, and
those of different people farther apart, than telling them apart would need.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fairveil.base.errors import FairveilError, did_you_mean

HeadKind = Literal["cosface", "arcface"]
"""Which margin: off the cosine (CosFace), or onto the angle (ArcFace)."""

SCALE = 64.0
"""s, the length that features are given."""

MARGINS: dict[HeadKind, float] = {"cosface": 0.35, "arcface": 0.5}
"""m where no other is asked for, as in the papers: off a cosine, and in radians."""


def cosface_logits(cosines: Tensor, labels: Tensor, *, margin: float | Tensor = 0.35, scale: float = SCALE) -> Tensor:
    """CosFace (section 2.2; Wang et al., CVPR 2018): s·(cos θ_y − m) for the right identity, s·cos θ_j for others.

    Args:
        cosines: of each face and each identity, (B, K).
        labels: the right identities, int64 (B,).
        margin: m, one for all or one for each identity, (K,).
        scale: s.

    Returns:
        Logits, (B, K).

    >>> cosface_logits(torch.tensor([[0.75, 0.5]]), torch.tensor([0]), margin=0.25, scale=10)
    tensor([[5., 5.]])
    """
    cosine = _right(cosines, labels)
    return scale * cosines.scatter(1, labels[:, None], cosine - _of_right(margin, labels))


def arcface_logits(cosines: Tensor, labels: Tensor, *, margin: float | Tensor = 0.5, scale: float = SCALE) -> Tensor:
    """ArcFace (section 2.2; Deng et al., CVPR 2019): s·cos(θ_y + m) for the right identity, s·cos θ_j for others.

    Beyond θ_y + m = π, where that cosine would rise again, the logit is s·(cos θ_y − m·sin m), as in the authors' code
    and in face.evoLVe: it goes on falling as θ_y grows, after a step down. Values and gradients are finite for all
    cosines, those of ±1 included.

    Args:
        cosines: of each face and each identity, (B, K).
        labels: the right identities, int64 (B,).
        margin: m in radians, at most 1; one for all or one for each identity, (K,).
        scale: s.

    Returns:
        Logits, (B, K).

    >>> arcface_logits(torch.tensor([[0.0, 0.5]]), torch.tensor([0]), margin=torch.pi / 6, scale=10)
    tensor([[-5.,  5.]])
    """
    cosine = _right(cosines, labels)
    m = torch.as_tensor(_of_right(margin, labels), dtype=cosine.dtype, device=cosine.device)
    # The slope of a root is infinite at zero: below a millionth the sine counts as constant.
    sine = ((1 - cosine) * (1 + cosine)).clamp_min(1e-12).sqrt()
    shifted = cosine * m.cos() - sine * m.sin()
    falling = torch.where(cosine > -m.cos(), shifted, cosine - m * m.sin())
    return scale * cosines.scatter(1, labels[:, None], falling)


def focal_losses(logits: Tensor, labels: Tensor, *, gamma: float = 2.0) -> Tensor:
    """Of each sample −(1 − p)^γ·log p, p being the probability of the right class (Lin et al., ICCV 2017, equation 4).

    It is taken of each sample, as in the paper: what a batch comes to is then the mean over any of its parts. The code
    of face.evoLVe weighs the mean cross entropy of the batch by the p that follows from it instead.

    Args:
        logits: (B, K).
        labels: int64 (B,).
        gamma: γ, how much less is made of what is right already; 0 is cross entropy, and others start at 1.

    Returns:
        (B,).

    >>> focal_losses(torch.zeros(1, 2), torch.tensor([0]))  # (1 - 1/2)² log 2
    tensor([0.1733])
    """
    log_p = -F.cross_entropy(logits, labels, reduction="none")
    return -((-log_p.expm1()) ** gamma) * log_p


def margins_by_group(margins: Mapping[str, float], groups: Sequence[str]) -> Tensor:
    """One margin an identity, float (K,), from one a group and the group of each identity.

    Raises:
        FairveilError: a group has no margin.

    >>> margins_by_group({"F": 0.5, "M": 0.25}, ["M", "F", "M"])
    tensor([0.2500, 0.5000, 0.2500])
    """
    if missing := [group for group in groups if group not in margins]:
        hint = did_you_mean(missing[0], margins)
        raise FairveilError(f"No margin is given for the group {missing[0]!r}: give one for each group.{hint}")
    return torch.tensor([margins[group] for group in groups])


class MarginHead(nn.Module):
    """One weight vector an identity, and a margin: features (B, D) and labels (B,) to logits (B, K).

    It computes with the numbers of its weights, float32 unless it was made another, whatever autocast says: half
    precision would round cosines by more than what identities differ in.

    Args:
        identities: K.
        dimension: of the features, D.
        kind: which margin.
        margin: from 0 to 1, one for all identities or one for each, (K,); by default that of `MARGINS`.
        scale: s, the length features are given.
        seed: of the initial weights; PyTorch's own generator is left as it was.

    Raises:
        FairveilError: there is no such head, there is nobody to tell apart, or margins are out of range or not one for
            each identity.
    """

    margin: Tensor

    def __init__(
        self,
        identities: int,
        dimension: int,
        kind: HeadKind = "cosface",
        *,
        margin: float | Tensor | None = None,
        scale: float = SCALE,
        seed: int,
    ) -> None:
        super().__init__()
        if kind not in get_args(HeadKind):
            raise FairveilError(f"There is no head {kind!r}: choose from {', '.join(get_args(HeadKind))}.")
        if identities < 2:
            raise FairveilError(f"With {identities} identities there is nobody to tell apart: give two at least.")
        margins = torch.as_tensor(MARGINS[kind] if margin is None else margin, dtype=torch.float32)
        if margins.shape not in ((), (identities,)):
            raise FairveilError(
                f"There are margins of shape {tuple(margins.shape)} for {identities} identities: give one for all or "
                "one for each."
            )
        if not bool(((margins >= 0) & (margins <= 1)).all()):
            raise FairveilError(f"A margin of {kind} is from 0 to 1, usually {MARGINS[kind]}: change the others.")
        self.kind, self.scale = kind, scale
        self.register_buffer("margin", margins.expand(identities).clone())
        self.weight = nn.Parameter(torch.empty(identities, dimension))
        nn.init.xavier_uniform_(self.weight, generator=torch.Generator().manual_seed(seed))

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Logits, (B, K), of features of any length."""
        with torch.autocast(features.device.type, enabled=False):
            cosines = F.normalize(features.to(self.weight.dtype)) @ F.normalize(self.weight).T
            return _LOGITS[self.kind](cosines, labels, margin=self.margin, scale=self.scale)

    def extra_repr(self) -> str:
        """What checkpoints tell heads apart by, beside weights and margins."""
        identities, dimension = self.weight.shape
        return f"{identities}, {dimension}, {self.kind!r}, scale={self.scale:g}"


_LOGITS: dict[HeadKind, Callable[..., Tensor]] = {"cosface": cosface_logits, "arcface": arcface_logits}


def _right(cosines: Tensor, labels: Tensor) -> Tensor:
    """The cosine of each face and its own identity, (B, 1)."""
    return cosines.gather(1, labels[:, None])


def _of_right(margin: float | Tensor, labels: Tensor) -> float | Tensor:
    """The margin of each face's own identity, (B, 1), or the one of all."""
    if isinstance(margin, Tensor) and margin.ndim:
        return margin[labels, None]
    return margin
