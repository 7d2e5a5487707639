"""The engines, each at its best documented setting for one convolution of fixed shape with a constant weight.

An engine is a function (problem, x, w, bias, threads) -> call, where ``call()`` computes and returns the output as an
array or what `numpy.asarray` takes. NCHW float32 goes in and comes out; what can be prepared is prepared before.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import numbaconv as nc
from numbaconv.problem import ConvProblem

Array = np.ndarray[Any, Any]
Call = Callable[[], Any]


def numbaconv(problem: ConvProblem, x: Array, w: Array, bias: Array, threads: int) -> Call:
    """A layer, measured; the output is written in place."""
    nc.set_num_threads(threads)
    layer = nc.Conv2d(w, bias, **_options(problem), effort="measure")
    y = np.empty(problem.output_shape, np.float32)
    return lambda: layer(x, out=y)


def numbaconv_function(problem: ConvProblem, x: Array, w: Array, bias: Array, threads: int) -> Call:
    """`conv2d`, whose weight might change with each call; measured."""
    nc.set_num_threads(threads)
    options = _options(problem)
    nc.plan(x.shape, w.shape, **options, effort="measure")
    y = np.empty(problem.output_shape, np.float32)
    return lambda: nc.conv2d(x, w, bias, **options, out=y)


def _options(problem: ConvProblem) -> dict[str, Any]:
    return {
        "stride": problem.stride[1:],
        "padding": problem.padding[1:],
        "dilation": problem.dilation[1:],
        "groups": problem.groups,
    }


def torch(problem: ConvProblem, x: Array, w: Array, bias: Array, threads: int) -> Call:
    """torch.nn.functional.conv2d in inference mode, which calls oneDNN."""
    import torch as t

    t.set_num_threads(threads)
    tx, tw, tb = (t.from_numpy(array) for array in (x, w, bias))
    (top, bottom), (left, right) = problem.padding[1:]
    symmetric = top == bottom and left == right

    def call() -> Any:
        with t.inference_mode():
            padded = tx if symmetric else t.nn.functional.pad(tx, (left, right, top, bottom))
            padding = (top, left) if symmetric else 0
            return t.nn.functional.conv2d(
                padded, tw, tb, problem.stride[1:], padding, problem.dilation[1:], problem.groups
            )

    return call


def _onnx_model(problem: ConvProblem, w: Array, bias: Array) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    (top, bottom), (left, right) = problem.padding[1:]
    node = helper.make_node(
        "Conv", ["x", "w", "b"], ["y"], strides=problem.stride[1:], dilations=problem.dilation[1:],
        group=problem.groups, pads=[top, left, bottom, right], kernel_shape=problem.kernel_size[1:],
    )  # fmt: skip
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", problem.input_shape), ("y", problem.output_shape))
    ]
    constants = [numpy_helper.from_array(w, "w"), numpy_helper.from_array(bias, "b")]
    graph = helper.make_graph([node], "convolution", ends[:1], ends[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def onnxruntime(problem: ConvProblem, x: Array, w: Array, bias: Array, threads: int) -> Call:
    """All graph optimisations, input and output bound to memory."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = ort.InferenceSession(_onnx_model(problem, w, bias), options, providers=["CPUExecutionProvider"])
    y = np.empty(problem.output_shape, np.float32)
    binding = session.io_binding()
    binding.bind_cpu_input("x", x)
    binding.bind_output("y", "cpu", 0, np.float32, y.shape, y.ctypes.data)

    def call() -> Any:
        session.run_with_iobinding(binding)
        return y

    return call


def openvino(problem: ConvProblem, x: Array, w: Array, bias: Array, threads: int) -> Call:
    """Compiled for latency in float32 (on some CPUs it would compute in bfloat16), tensors shared."""
    import openvino as ov

    core = ov.Core()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "NUM_STREAMS": 1,
    }
    compiled = core.compile_model(core.read_model(_onnx_model(problem, w, bias)), "CPU", settings)
    request = compiled.create_infer_request()
    y = np.empty(problem.output_shape, np.float32)
    request.set_input_tensor(ov.Tensor(x, shared_memory=True))
    request.set_output_tensor(ov.Tensor(y, shared_memory=True))

    def call() -> Any:
        request.infer()
        return y

    return call


def ncnn(problem: ConvProblem, x: Array, w: Array, bias: Array, threads: int) -> Call:
    """All its optimisations are on by default; it has no batch, so images go one by one."""
    import ncnn as n

    net = n.Net()
    net.opt.num_threads = threads
    (top, bottom), (left, right) = problem.padding[1:]
    (_, kh, kw), (_, sh, sw), (_, dh, dw) = problem.kernel_size, problem.stride, problem.dilation
    kind = "Convolution" if problem.groups == 1 else "ConvolutionDepthWise"
    fields = {0: problem.out_channels, 1: kw, 11: kh, 2: dw, 12: dh, 3: sw, 13: sh, 4: left, 15: right, 14: top,
              16: bottom, 5: 1, 6: w.size}  # fmt: skip
    if problem.groups > 1:
        fields[7] = problem.groups
    text = " ".join(f"{key}={value}" for key, value in fields.items())
    with tempfile.TemporaryDirectory() as folder:
        param, weights = Path(folder) / "conv.param", Path(folder) / "conv.bin"
        param.write_text(f"7767517\n2 2\nInput x 0 1 x\n{kind} conv 1 1 x y {text}\n")
        weights.write_bytes(np.zeros(1, np.int32).tobytes() + w.tobytes() + bias.tobytes())
        net.load_param(str(param))
        net.load_model(str(weights))
    images = [n.Mat(image).clone() for image in x]

    def call() -> Any:
        results = []
        for image in images:
            extractor = net.create_extractor()
            extractor.input("x", image)
            results.append(extractor.extract("y")[1])
        return results

    return call


_Maker = Callable[[ConvProblem, Array, Array, Array, int], Call]
#: The peers.
PEERS: dict[str, _Maker] = {
    "torch": torch,
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "ncnn": ncnn,
}
#: All engines; ours come first in every round.
ENGINES: dict[str, _Maker] = {"numbaconv": numbaconv, "conv2d": numbaconv_function, **PEERS}
