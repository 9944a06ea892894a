"""Derive the person network in the package from mediapipe's: python -m tools.derive_person WHEEL_FOLDER

`selfie_segmentation.tflite` ends in an operator of mediapipe's own (a transposed convolution with a bias), which
LiteRT's built-in kernels don't know. The same sum is a built-in one with other arguments: only that is exchanged.
"""

import argparse
from pathlib import Path

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

OUT = Path(__file__).parents[1] / "diverse3d" / "assets" / "person.tflite"
SOURCE = Path("mediapipe/modules/selfie_segmentation/selfie_segmentation.tflite")
CUSTOM = b"Convolution2DTransposeBias"


def derive(content: bytes) -> bytes:
    """The same network of built-in operators only."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content))
    graph = model.subgraphs[0]
    (code,) = [i for i, one in enumerate(model.operatorCodes) if one.customCode == CUSTOM]
    (operator,) = [one for one in graph.operators if one.opcodeIndex == code]
    pixels, weights, bias = operator.inputs
    size = schema.TensorT()
    size.name, size.shape, size.type = b"person/size", [4], schema.TensorType.INT32
    size.buffer = len(model.buffers)
    buffer = schema.BufferT()
    shape = np.asarray(graph.tensors[operator.outputs[0]].shape, np.int32)
    buffer.data = np.frombuffer(shape.tobytes(), np.uint8)
    model.buffers.append(buffer)
    graph.tensors.append(size)
    operator.inputs = [len(graph.tensors) - 1, weights, pixels, bias]
    operator.customOptions = None
    operator.builtinOptionsType = schema.BuiltinOptions.TransposeConvOptions
    options = schema.TransposeConvOptionsT()
    options.padding, options.strideH, options.strideW = schema.Padding.SAME, 2, 2
    operator.builtinOptions = options
    exchanged = model.operatorCodes[code]
    exchanged.builtinCode = schema.BuiltinOperator.TRANSPOSE_CONV
    exchanged.deprecatedBuiltinCode, exchanged.customCode, exchanged.version = exchanged.builtinCode, None, 3
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path, help="the unpacked mediapipe 0.10.14 wheel")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    options.out.write_bytes(derive((options.wheel / SOURCE).read_bytes()))


if __name__ == "__main__":
    main()
