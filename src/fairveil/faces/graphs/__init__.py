"""Foreign inference graphs as differentiable torch modules."""

from fairveil.faces.graphs.module import GraphModule
from fairveil.faces.graphs.onnx import read_onnx
from fairveil.faces.graphs.tensorflow import read_tensorflow
from fairveil.faces.graphs.tfjs import read_tfjs, read_tfjs_weights
from fairveil.faces.graphs.tflite import read_tflite

__all__ = ["GraphModule", "read_onnx", "read_tensorflow", "read_tfjs", "read_tfjs_weights", "read_tflite"]
