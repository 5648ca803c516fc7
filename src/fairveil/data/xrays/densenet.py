"""DenseNet-121 (Huang et al. 2017), under torchvision's names, so that its ImageNet weights fit (section 6.3.2)."""

import re
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from fairveil.base.errors import FairveilError, shown

BLOCKS = (6, 12, 24, 16)
"""How many layers each dense block of DenseNet-121 has."""

_GROWTH, _BOTTLENECK, _STEM = 32, 4, 64  # channels a layer adds, how often as many it squeezes to, and at first
_OLD_NAME = re.compile(r"(\.denselayer\d+\.(?:norm|conv))\.([12])\.")
_COUNTER = "num_batches_tracked"  # unknown to PyTorch before 0.4.1, and used by nothing here


class DenseNet121(nn.Module):
    """DenseNet-121 from prepared X-rays, float (B, channels, S, S), to logits (B, K).

    Parameters and buffers have torchvision's names and shapes. Each side of the pictures has 32 pixels at least.

    Attributes:
        features: from pictures to maps, (B, 1024, S / 32, S / 32), before their last ReLU.
        classifier: the linear layer from the mean of the maps to logits.

    >>> DenseNet121(5, channels=1, seed=0)(torch.zeros(2, 1, 32, 32)).shape
    torch.Size([2, 5])
    """

    def __init__(self, classes: int, *, channels: int = 3, seed: int, drop_rate: float = 0) -> None:
        """Build it untrained; see `load_imagenet`.

        Args:
            classes: how many logits it gives, K.
            channels: of the pictures.
            seed: of its initial weights; PyTorch's own generator is left as it was.
            drop_rate: the share of each layer's output that training drops.

        Raises:
            FairveilError: it would have no logits or no input, or everything would be dropped.
        """
        super().__init__()
        if classes < 1 or channels < 1 or not 0 <= drop_rate < 1:
            raise FairveilError(
                f"A DenseNet of {classes} classes and {channels} channels that drops {drop_rate:g} cannot be built: "
                "give at least 1 of both, and a share from 0 to below 1."
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            parts: OrderedDict[str, nn.Module] = OrderedDict(
                conv0=nn.Conv2d(channels, _STEM, 7, stride=2, padding=3, bias=False),
                norm0=nn.BatchNorm2d(_STEM),
                relu0=nn.ReLU(inplace=True),
                pool0=nn.MaxPool2d(3, stride=2, padding=1),
            )
            width = _STEM
            for number, layers in enumerate(BLOCKS, start=1):
                parts[f"denseblock{number}"] = _Block(width, layers, drop_rate)
                width += layers * _GROWTH
                if number < len(BLOCKS):
                    parts[f"transition{number}"] = _transition(width)
                    width //= 2
            parts["norm5"] = nn.BatchNorm2d(width)
            self.features = nn.Sequential(parts)
            self.classifier = nn.Linear(width, classes)
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Prepared X-rays to logits (B, K)."""
        maps = F.relu(self.features(images))
        logits: Tensor = self.classifier(maps.mean((2, 3)))
        return logits


def load_imagenet(network: DenseNet121, path: Path) -> None:
    """Give a network the weights that torchvision trained on ImageNet.

    The classifier stays as it is where the file's has another number of classes. For networks of one channel the first
    convolution's weights are summed over colors: they give for a gray picture what those of three give for three
    equal channels.

    Args:
        network: on any device; changed in place.
        path: of torchvision's file, such as densenet121-a639ec97.pth, with new or old names of layers; or of a
            safetensors file with the same names. Nothing in it is run.

    Raises:
        FairveilError: there is no such file, or it does not hold the weights of a DenseNet-121. The network is then
            as it was.
    """
    state = {_OLD_NAME.sub(r"\1\2.", name): tensor for name, tensor in _read(path).items()}
    expected = network.state_dict()
    stem = state.get("features.conv0.weight")
    if stem is not None and stem.ndim == 4 and stem.shape[1] == 3 and _channels(network) == 1:
        state["features.conv0.weight"] = stem.sum(1, keepdim=True)
    classifier = {name: tensor for name, tensor in state.items() if name.startswith("classifier.")}
    if any(name in expected and expected[name].shape != tensor.shape for name, tensor in classifier.items()):
        state |= {name: expected[name] for name in expected if name.startswith("classifier.")}
    missing = [name for name in expected if name not in state and not name.endswith(_COUNTER)]
    surplus = [name for name in state if name not in expected]
    for kind, names in (("lacks", missing), ("also has", surplus)):
        if names:
            raise FairveilError(
                f"{shown(path)} {kind} {shown(names[0])}{' and others' * (len(names) > 1)}: give torchvision's weights "
                "of a DenseNet-121."
            )
    for name, tensor in state.items():
        if tensor.shape != expected[name].shape:
            raise FairveilError(
                f"{name} in {shown(path)} has shape {tuple(tensor.shape)}, but {tuple(expected[name].shape)} in this "
                "network: give torchvision's weights of a DenseNet-121, for 1 or 3 channels."
            )
    network.load_state_dict(expected | state)


def _channels(network: DenseNet121) -> int:
    """How many channels the pictures of a network have."""
    return int(network.get_parameter("features.conv0.weight").shape[1])


class _Layer(nn.Module):
    """From all maps of a block so far, squeezed by a 1×1 convolution, to `_GROWTH` more by a 3×3 one."""

    def __init__(self, width: int, drop_rate: float) -> None:
        super().__init__()
        inner = _BOTTLENECK * _GROWTH
        self.norm1 = nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width, inner, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, _GROWTH, 3, padding=1, bias=False)
        self.drop_rate = drop_rate

    def forward(self, maps: Tensor) -> Tensor:
        squeezed = self.conv1(F.relu(self.norm1(maps)))
        new: Tensor = self.conv2(F.relu(self.norm2(squeezed)))
        return F.dropout(new, self.drop_rate, self.training)


class _Block(nn.Module):
    """Layers of which each sees the maps of all before it."""

    def __init__(self, width: int, layers: int, drop_rate: float) -> None:
        super().__init__()
        for number in range(layers):
            self.add_module(f"denselayer{number + 1}", _Layer(width + number * _GROWTH, drop_rate))

    def forward(self, maps: Tensor) -> Tensor:
        for layer in self.children():
            maps = torch.cat([maps, layer(maps)], dim=1)
        return maps


def _transition(width: int) -> nn.Module:
    """Half as many maps of half the size."""
    return nn.Sequential(
        OrderedDict[str, nn.Module](
            norm=nn.BatchNorm2d(width),
            relu=nn.ReLU(inplace=True),
            conv=nn.Conv2d(width, width // 2, 1, bias=False),
            pool=nn.AvgPool2d(2, stride=2),
        )
    )


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by their names."""
    if not path.is_file():
        raise FairveilError(f"{shown(path)} is not there: give a file of torchvision's DenseNet-121 weights.")
    try:
        content: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except Exception as error:  # a damaged file can make its reader raise whatever it likes
        raise FairveilError(
            f"{shown(path)} cannot be read as weights: give torchvision's .pth file, or a .safetensors file."
        ) from error
    named = isinstance(content, Mapping) and all(isinstance(name, str) for name in content)
    if not named or not all(isinstance(tensor, Tensor) for tensor in content.values()):
        raise FairveilError(f"{shown(path)} does not hold tensors by their names: give torchvision's weights.")
    return dict(content)
