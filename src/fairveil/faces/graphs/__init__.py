"""Foreign inference graphs as differentiable torch modules: ONNX of anyone, and the known files of the zoo."""

from fairveil.faces.graphs.module import GraphModule
from fairveil.faces.graphs.onnx import read_onnx

__all__ = ["GraphModule", "read_onnx"]
