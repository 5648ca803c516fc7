"""A small network behind a backbone, which takes something out of its embeddings (section 6.5)."""

import torch.nn.functional as F
from torch import Tensor, nn


class Projection(nn.Module):
    """φ: 4 linear layers with ReLU between them, from embeddings to embeddings, (B, D) to (B, D)."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.layers = perceptron(dimension, [dimension] * 3, dimension)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Embeddings to others of the same dimension."""
        projected: Tensor = self.layers(embeddings)
        return projected


class Projected(nn.Module):
    """A backbone, of whose unit vectors a projection is taken: normalized crops to features (B, D)."""

    def __init__(self, backbone: nn.Module, projection: Projection) -> None:
        super().__init__()
        self.backbone, self.projection = backbone, projection

    def forward(self, crops: Tensor) -> Tensor:
        """Normalized crops (B, 3, size, size) to features (B, D)."""
        projected: Tensor = self.projection(F.normalize(self.backbone(crops)))
        return projected


def perceptron(inner: int, hidden: list[int], outer: int) -> nn.Sequential:
    """Linear layers with ReLU between them, from `inner` numbers by the hidden widths to `outer`."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inner, width), nn.ReLU()]
        inner = width
    return nn.Sequential(*layers, nn.Linear(inner, outer))
