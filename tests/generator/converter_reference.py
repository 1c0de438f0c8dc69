"""Both search spaces written in TensorFlow from their papers, and converted by its own converter.

The reference that the TFLite writer is checked against. It shares no code with the generator: it reads specs by itself,
builds the network with batch norms that have statistics of their own, and hands out the weights with the batch norms
folded, in the order in which their layers stand.
"""

from __future__ import annotations

import os
import random
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from leti.core.device import ModelPrecision
from leti.core.spec import NetworkConfig, NetworkSpec
from leti.core.wire import Zero
from leti.generator.spaces import SPACES
from leti.generator.spaces.nasbench201 import all_architectures, spec_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tensorflow as tf

tf.get_logger().setLevel("ERROR")

EPSILON = 1e-3
BUILTINS = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
ACTIVATIONS = {value: name for name, value in vars(schema.ActivationFunctionType).items() if isinstance(value, int)}
SMALL = NetworkConfig(modules_per_stack=1)


def networks() -> list[tuple[NetworkSpec, Zero]]:
    """Return the networks to compare: both spaces, zeros in every mode, degenerate cells, all fixed by a seed."""
    rng = random.Random(201)
    specs = [spec_of(architecture, SMALL) for architecture in all_architectures()]
    space = SPACES["nasbench201"]
    degenerate = rng.sample([spec for spec in specs if space.is_degenerate(spec)], 3)
    with_zeros = rng.sample([s for s in specs if "none" in str(s.layers) and not space.is_degenerate(s)], 12)
    found: list[tuple[NetworkSpec, Zero]] = [(spec, "execute") for spec in degenerate + with_zeros]
    found += [(spec, "prune") for spec in degenerate + with_zeros[:6]]
    found += [(spec, "fold") for spec in degenerate + with_zeros[6:]]
    found += [
        (spec, "execute") for spec in space.sample(2, 0, NetworkConfig(modules_per_stack=2, input_shape=(26, 8, 1)))
    ]
    return found + [(spec, "execute") for spec in SPACES["nasbench101"].sample(14, 101, SMALL)]


class Converting:
    """A network of one image in TensorFlow, and the files that its converter makes of it."""

    def __init__(self, shape: tuple[int, ...], build: Callable[[Any], Any]) -> None:
        self.shape = shape
        self._graph = tf.Graph()
        with self._graph.as_default():
            self._given = tf.compat.v1.placeholder(tf.float32, shape, name="image")
            self.made = build(self._given)

    def file(self, precision: ModelPrecision, samples: Sequence[np.ndarray] = ()) -> bytes:
        """Return the file of a precision; ``samples`` are the images that full integers are calibrated on."""
        converter = tf.compat.v1.lite.TFLiteConverter(self._graph.as_graph_def(), [self._given], [self.made])
        if precision != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if precision == "full_integer":
            converter.representative_dataset = lambda: ([sample] for sample in samples)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return bytes(converter.convert())


class Reference:
    """One network in TensorFlow: ``file``, as converted, and ``weights``, in the order of layers."""

    def __init__(self, spec: NetworkSpec, zero: Zero, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._layers: list[tuple[str, Any, tuple[np.ndarray, ...]]] = []
        build = {"nasbench201": self._nasbench201, "nasbench101": self._nasbench101}[spec.space]
        self.converting = Converting(
            (spec.config.batch, *spec.config.input_shape), lambda image: build(image, spec, zero)
        )
        self.file: bytes = self.converting.file("float32")
        self.weights = self._folded(self.converting.made)

    # --- layers

    def _random(self, *shape: int) -> np.ndarray:
        return self._rng.standard_normal(shape, dtype=np.float32)

    def _conv(self, value: Any, channels: int, size: int, stride: int = 1, *, norm: bool = True) -> Any:
        kernel = self._random(size, size, value.shape[-1], channels)
        kernel /= np.float32(np.sqrt(size * size * int(value.shape[-1]) / 2))
        value = tf.nn.conv2d(value, tf.constant(kernel), stride, "SAME")
        self._layers.append(("conv", value.op, (kernel,)))
        return self._norm(value) if norm else value

    def _norm(self, value: Any) -> Any:
        channels = int(value.shape[-1])
        gamma, variance = (self._rng.uniform(0.5, 1.5, channels).astype(np.float32) for _ in range(2))
        beta, mean = (self._random(channels) / 10 for _ in range(2))
        constants = [tf.constant(array) for array in (gamma, beta, mean, variance)]
        value, *_ = tf.compat.v1.nn.fused_batch_norm(
            value, *constants[:2], mean=constants[2], variance=constants[3], epsilon=EPSILON, is_training=False
        )
        self._layers.append(("norm", value.op, (gamma, beta, mean, variance)))
        return value

    def _dense(self, value: Any, units: int) -> Any:
        matrix, bias = self._random(int(value.shape[-1]), units), self._random(units)
        value = tf.matmul(value, tf.constant(matrix)) + tf.constant(bias)
        self._layers.append(("dense", value.op, (matrix, bias)))
        return value

    # --- NAS-Bench-201

    def _nasbench201(self, image: Any, spec: NetworkSpec, zero: Zero) -> Any:
        names = [layer.name for layer in spec.layers[1:7]]
        into = {1: [(0, names[0])], 2: [(0, names[1]), (1, names[2])]}
        into[3] = [(0, names[3]), (1, names[4]), (2, names[5])]
        width = spec.config.stem_channels
        value = self._conv(image, width, 3)
        for stack in range(spec.config.stacks):
            if stack > 0:
                width *= 2
                inner = self._conv(tf.nn.relu(value), width, 3, 2)
                inner = self._conv(tf.nn.relu(inner), width, 3)
                value = self._conv(tf.nn.avg_pool2d(value, 2, 2, "SAME"), width, 1, norm=False) + inner
            for _ in range(spec.config.modules_per_stack):
                value = self._cell201(value, into, zero)
        return self._dense(tf.reduce_mean(tf.nn.relu(self._norm(value)), [1, 2]), spec.config.classes)

    def _cell201(self, value: Any, into: dict[int, list[tuple[int, str]]], zero: Zero) -> Any:
        nodes = [value]
        for node in (1, 2, 3):
            terms = [self._edge201(nodes[source], name, zero, value) for source, name in into[node]]
            terms = [term for term in terms if term is not None]
            total = terms[0] if terms else None
            for term in terms[1:]:
                total = total + term
            nodes.append(total)
        return value * 0.0 if nodes[3] is None else nodes[3]

    def _edge201(self, value: Any, name: str, zero: Zero, cell_input: Any) -> Any:
        if name == "none" and zero != "execute":
            return None
        if value is None:
            if zero == "prune" or name == "skip_connect":
                return None
            value = cell_input * 0.0
        if name == "none":
            return value * 0.0
        if name == "skip_connect":
            return value
        if name == "avg_pool_3x3":
            return tf.nn.avg_pool2d(value, 3, 1, "SAME")
        return self._conv(tf.nn.relu(value), value.shape[-1], {"nor_conv_1x1": 1, "nor_conv_3x3": 3}[name])

    # --- NAS-Bench-101 (specs without vertices to prune)

    def _nasbench101(self, image: Any, spec: NetworkSpec, zero: Zero) -> Any:
        matrix = np.asarray(spec.adjacency)
        width = spec.config.stem_channels
        value = tf.nn.relu(self._conv(image, width, 3))
        for stack in range(spec.config.stacks):
            if stack > 0:
                value = tf.nn.max_pool2d(value, 2, 2, "SAME")
                width *= 2
            for _ in range(spec.config.modules_per_stack):
                value = self._cell101(value, matrix, [layer.name for layer in spec.layers], width)
        return self._dense(tf.reduce_mean(value, [1, 2]), spec.config.classes)

    def _cell101(self, value: Any, matrix: np.ndarray, names: Sequence[str], width: int) -> Any:
        out = len(matrix) - 1
        widths = channels101(matrix, width)
        tensors = [value]
        for vertex in range(1, out):
            terms = [
                tf.slice(tensors[v], [0, 0, 0, 0], [-1, -1, -1, widths[vertex]])
                if widths[v] != widths[vertex]
                else tensors[v]
                for v in range(1, vertex)
                if matrix[v, vertex]
            ]
            if matrix[0, vertex]:
                terms.append(tf.nn.relu(self._conv(value, widths[vertex], 1)))
            total = terms[0]
            for term in terms[1:]:
                total = total + term
            if names[vertex] == "maxpool3x3":
                tensors.append(tf.nn.max_pool2d(total, 3, 1, "SAME"))
            else:
                tensors.append(tf.nn.relu(self._conv(total, widths[vertex], 3 if "3x3" in names[vertex] else 1)))
        fed = [tensors[v] for v in range(1, out) if matrix[v, out]]
        result = tf.concat(fed, -1) if len(fed) > 1 else fed[0] if fed else None
        if matrix[0, out]:
            projected = tf.nn.relu(self._conv(value, width, 1))
            result = projected if result is None else result + projected
        return result

    # --- weights

    def _folded(self, made: Any) -> list[tuple[np.ndarray, ...]]:
        """Return the weights of the layers that reach the output, constants after a convolution folded into it."""
        alive, queue = {made.op}, [made.op]
        while queue:
            for tensor in queue.pop().inputs:
                if tensor.op not in alive:
                    alive.add(tensor.op)
                    queue.append(tensor.op)
        norms = {op: arrays for kind, op, arrays in self._layers if kind == "norm"}
        taken: set[Any] = set()
        found: list[tuple[np.ndarray, ...]] = []
        for kind, op, arrays in self._layers:
            if op not in alive or op in taken:
                continue
            if kind == "dense":
                found.append((np.ascontiguousarray(arrays[0].T), arrays[1]))
            elif kind == "norm":
                found += [(part,) for part in affine(arrays)]
            else:
                ops, kernel, bias = [op], arrays[0], np.zeros(arrays[0].shape[-1], np.float32)
                while readers := only_readers(ops, alive):
                    if readers[0] in norms:
                        scale, shift = affine(norms[readers[0]])
                        kernel, bias = kernel * scale, bias * scale + shift
                    else:
                        kernel, bias = kernel * 0, bias * 0
                    taken.update(readers)
                    ops = readers
                found.append((np.ascontiguousarray(kernel.transpose(3, 0, 1, 2)), bias))
        return found


def affine(norm: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return scale and shift of a batch norm."""
    gamma, beta, mean, variance = norm
    scale = gamma / np.sqrt(variance + np.float32(EPSILON))
    return scale, beta - mean * scale


def only_readers(ops: Sequence[Any], alive: set[Any]) -> list[Any]:
    """Return the batch norm, or the equal multiplications by zero, that alone read what equal operations make."""
    readers = [reader for op in ops for reader in op.outputs[0].consumers() if reader in alive]
    if len(readers) == 1 and readers[0].type.startswith("FusedBatchNorm"):
        return readers
    return readers if {reader.type for reader in readers} == {"Mul"} else []


def channels101(matrix: np.ndarray, width: int) -> list[int]:
    """Return the channels of each vertex, as NAS-Bench-101's paper divides them."""
    out = len(matrix) - 1
    fed = int(matrix[1:, out].sum())
    widths, extra = [0] * (out + 1), width % fed if fed else 0
    for v in range(1, out):
        if matrix[v, out]:
            widths[v] = width // fed + (1 if extra > 0 else 0)
            extra -= 1
    for v in reversed(range(1, out)):
        if not matrix[v, out]:
            widths[v] = max(widths[w] for w in range(v + 1, out) if matrix[v, w])
    return widths


def operators(file: bytes) -> Counter[tuple[str, int, str, tuple[int, ...]]]:
    """Count a file's operators by name, version, activation inside and output shape."""
    model = schema.ModelT.InitFromPackedBuf(file, 0)
    (subgraph,) = model.subgraphs
    found: Counter[tuple[str, int, str, tuple[int, ...]]] = Counter()
    for operator in subgraph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        activation = ACTIVATIONS[getattr(operator.builtinOptions, "fusedActivationFunction", 0)]
        shape = tuple(int(n) for n in subgraph.tensors[operator.outputs[0]].shape)
        found[BUILTINS[code.builtinCode], code.version, activation, shape] += 1
    return found
