"""Networks that turn a framed face crop into features."""

from fairveil.faces.backbones.dlib_resnet import DlibResNet

__all__ = ["DlibResNet"]
