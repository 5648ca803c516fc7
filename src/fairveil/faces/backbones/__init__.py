"""Networks that turn a framed face crop into features."""

from fairveil.faces.backbones.catalogue import BACKBONES, build_backbone
from fairveil.faces.backbones.dlib_resnet import DlibResNet
from fairveil.faces.backbones.projection import Projected, Projection

__all__ = ["BACKBONES", "DlibResNet", "Projected", "Projection", "build_backbone"]
