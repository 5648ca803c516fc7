"""The "improved residual" networks of the ArcFace paper (Deng et al. 2019), in face.evoLVe's form."""

from collections.abc import Sequence

from torch import Tensor, nn

from fairveil.faces.backbones.residual import feature_layers


class ImprovedResNet(nn.Module):
    """From normalized crops (B, 3, size, size) to features (B, dimension).

    The first convolution keeps the size and each of the four stages, of 64, 128, 256 and 512 channels, halves it.
    Convolutions and the linear layer start from Glorot's uniform distribution, as face.evoLVe's
    `_initialize_weights` has it.
    """

    def __init__(self, units: Sequence[int], *, dimension: int, size: int) -> None:
        """Build it with weights from PyTorch's own generator.

        Args:
            units: how many each of the four stages has.
            dimension: of the features.
            size: side of the crops in pixels, a multiple of 16.
        """
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64)]
        inner = 64
        for stage, count in enumerate(units):
            for index in range(count):
                layers.append(ImprovedUnit(inner, 64 << stage, stride=1 if index else 2))
                inner = 64 << stage
        self.body = nn.Sequential(*layers)
        self.head = feature_layers(inner, size // 16, dimension)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, crops: Tensor) -> Tensor:
        """From normalized crops (B, 3, size, size) to features (B, dimension)."""
        features: Tensor = self.head(self.body(crops))
        return features


class ImprovedUnit(nn.Module):
    """Batch norms around two 3×3 convolutions, the second of which has the stride, and nothing after the sum."""

    def __init__(self, inner: int, outer: int, *, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.BatchNorm2d(inner),
            nn.Conv2d(inner, outer, 3, padding=1, bias=False),
            nn.PReLU(outer),
            nn.Conv2d(outer, outer, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(outer),
        )
        # A window of one pixel: every other pixel where the stride is 2, and the input itself where it is 1.
        self.shortcut: nn.Module = nn.MaxPool2d(1, stride)
        if inner != outer:
            self.shortcut = nn.Sequential(nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer))

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, C, H, W) to others, halved in size where the stride is 2."""
        summed: Tensor = self.residual(features) + self.shortcut(features)
        return summed
