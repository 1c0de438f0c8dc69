"""PyTorch import: .pt2 files and exported programs → graphs that compute what PyTorch computes."""

from __future__ import annotations

import importlib.util
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import evaluator
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `import-torch`")

import torch_networks as networks

from leti.core.graph import TensorType
from leti.generator.importers import import_model
from leti.generator.importers.draft import Draft
from leti.generator.importers.passes import fold, normalise
from leti.generator.importers.torch import read_torch

nn, F = torch.nn, torch.nn.functional


def _exported(network: Any, *inputs: Any, **more: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's, about itself
        return torch.export.export(network.eval(), inputs, **more)


def _function(function: Callable[..., Any]) -> Any:
    class Network(nn.Module):
        def forward(self, *inputs: Any) -> Any:
            return function(*inputs)

    return Network()


def _saved(program: Any, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, path)
    return path


def _run(draft: Draft, inputs: list[Any], like: list[Any]) -> list[np.ndarray]:
    """Return what a draft makes, its images turned as PyTorch has them."""
    given = []
    for value, tensor in zip(draft.inputs, inputs, strict=True):
        array = tensor.numpy().astype(np.float64)
        given.append(array if draft.types[value].shape == array.shape else np.moveaxis(array, 1, -1))
    made = evaluator.evaluate(draft, given)
    return [
        array if array.shape == tuple(tensor.shape) else np.moveaxis(array, -1, 1)
        for array, tensor in zip(made, like, strict=True)
    ]


def _parameters(network: Any) -> int:
    """Return PyTorch's count, and mean and variance of every batch norm."""
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    return sum(p.numel() for p in network.parameters()) + sum(2 * norm.num_features for norm in norms)


# --- whole networks ---------------------------------------------------------------------------------------------------

COMPUTED = {"windows": 16 * 16 + 4 * 16 * 16}
"""Elements of constants that are no parameters: Swin's positions and mask."""


@pytest.fixture(scope="module")
def programs() -> Mapping[str, tuple[Any, Any, Any]]:
    """Each small network, its input, and its exported program."""
    found = {}
    for name, (make, shape) in networks.NETWORKS.items():
        torch.manual_seed(0)
        network, image = networks.prepared(make()), torch.randn(shape)
        found[name] = network, image, _exported(network, image)
    return found


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_networks_keep_every_operator_parameter_and_multiplication(name: str, programs: Mapping[str, Any]) -> None:
    network, image, program = programs[name]
    graph = read_torch(program, {}).finish().graph
    assert graph.unknown == ()
    assert graph.params == _parameters(network) + COMPUTED.get(name, 0)
    assert graph.macs == networks.counted_macs(network, image)


@pytest.mark.parametrize("name", sorted(set(networks.NETWORKS) - set(COMPUTED)))
def test_unfolded_graphs_have_the_parameters_of_pytorch(name: str, programs: Mapping[str, Any]) -> None:
    network, image, _ = programs[name]
    graph = import_model(_exported(network, image[:1]), fold=False).graph
    assert graph.params == _parameters(network)


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_networks_compute_what_pytorch_computes(name: str, programs: Mapping[str, Any]) -> None:
    network, image, program = programs[name]
    with torch.no_grad():
        expected = network(image)
    read = read_torch(program, {})
    for draft in (read, normalise(read), fold(normalise(read))):
        (made,) = _run(draft, [image], [expected])
        np.testing.assert_allclose(made, expected.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_imported_weights_run_in_onnxruntime(name: str, programs: Mapping[str, Any]) -> None:
    runtime = pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("leti.generator.export.onnx")
    network, image, program = programs[name]
    imported = import_model(program, weights=True)
    data = onnx.export_onnx(imported.graph, weights=imported.weights)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(data, options)
    (given,) = session.get_inputs()
    array = image.numpy() if tuple(given.shape) == tuple(image.shape) else np.moveaxis(image.numpy(), 1, -1)
    (made,) = session.run(None, {given.name: np.ascontiguousarray(array)})
    with torch.no_grad():
        expected = network(image).numpy()
    made = made if made.shape == expected.shape else np.moveaxis(made, -1, 1)
    np.testing.assert_allclose(made, expected, rtol=1e-4, atol=1e-5)


def test_a_file_and_the_program_in_memory_are_one_graph(programs: Mapping[str, Any], tmp_path: Path) -> None:
    _, _, program = programs["mobilenet"]
    path = _saved(program, tmp_path / "model.pt2")
    read, held = import_model(path, weights=True), import_model(program, weights=True)
    assert read.graph == held.graph
    assert read.weights is not None
    assert held.weights is not None
    for mine, theirs in zip(read.weights, held.weights, strict=True):
        for one, other in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(one, other)
    assert import_model(path).weights is None


def test_a_decomposed_program_is_the_same_folded_graph(programs: Mapping[str, Any]) -> None:
    for name in ("resnet", "mobilenet", "densenet"):
        program = programs[name][2]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            functional = program.run_decompositions({})
        assert import_model(functional).graph == import_model(program).graph


def test_operators_are_named_by_their_layers(programs: Mapping[str, Any]) -> None:
    imported = import_model(programs["resnet"][2], fold=False)
    named = dict(zip(imported.names, imported.graph.ops, strict=True))
    assert named["stem.0.0"].kind == "conv2d"
    assert named["blocks.1.project.1"].kind == "batch_norm"
    assert named["classify"].kind == "fully_connected"


def test_folding_leaves_what_runs(programs: Mapping[str, Any]) -> None:
    graph = import_model(programs["resnet"][2]).graph
    kinds = Counter(op.kind for op in graph.ops)
    assert kinds == {"conv2d": 6, "relu": 5, "max_pool2d": 1, "add": 2, "mean": 1, "fully_connected": 1}
    assert graph.inputs == (TensorType((2, 32, 32, 3)),)
    assert dict(graph.ops[0].attributes)["padding"] == (3, 3, 3, 3)


# --- operators --------------------------------------------------------------------------------------------------------

Case = Callable[[Any, Any, Any], Any]
IMAGE: dict[str, Case] = {
    "relu6": lambda x, s, i: F.relu6(x * 4),
    "hardtanh": lambda x, s, i: F.hardtanh(x),
    "clip": lambda x, s, i: x.clamp(-0.5, 0.7),
    "relu of clamp": lambda x, s, i: x.clamp(min=0),
    "maximum": lambda x, s, i: x.clamp(min=0.25),
    "minimum": lambda x, s, i: torch.clamp_max(x, 0.25),
    "bounded by a tensor": lambda x, s, i: torch.minimum(x, x.mean(1, keepdim=True)),
    "leaky": lambda x, s, i: F.leaky_relu(x, 0.2),
    "elu": lambda x, s, i: F.elu(x, 0.5),
    "silu": lambda x, s, i: F.silu(x),
    "mish": lambda x, s, i: F.mish(x),
    "softplus": lambda x, s, i: F.softplus(x),
    "gelu": lambda x, s, i: F.gelu(x) + F.gelu(x, approximate="tanh"),
    "glu": lambda x, s, i: F.glu(x, 1),
    "softmax": lambda x, s, i: F.log_softmax(x, 1) + F.softmax(x, -1),
    "powers": lambda x, s, i: (x**2 + 1) ** 0.5 + (x.abs() + 1) ** -1 + (x.abs() + 1).pow(1.7),
    "arithmetic": lambda x, s, i: 2 - torch.add(x, x * 3, alpha=0.5) / 4 + torch.rsub(x, 1) - x.sub(1, alpha=2),
    "added product": lambda x, s, i: torch.addcmul(x, x, x) + torch.addcdiv(x, x, x.abs() + 1),
    "where": lambda x, s, i: torch.where(x < 0, x * 2, x.exp()),
    "masked": lambda x, s, i: x.masked_fill(x < 0.3, -1.0),
    "mean of all": lambda x, s, i: x.mean(),
    "sum": lambda x, s, i: x.sum((0, 2)),
    "extremes": lambda x, s, i: x.amax((1, 3), keepdim=True) - x.min(),
    "max along": lambda x, s, i: x.max(1).values,
    "max with positions": lambda x, s, i: torch.cat([t.flatten().float() for t in x.max(2)]),
    "argmax": lambda x, s, i: x.argmax(1).float(),
    "norm": lambda x, s, i: F.normalize(x, dim=1),
    "layer norm of three": lambda x, s, i: F.layer_norm(x, (8, 6, 6)),
    "group norm": lambda x, s, i: F.group_norm(x, 4),
    "rms norm": lambda x, s, i: F.rms_norm(s, (12,)),
    "instance norm": lambda x, s, i: F.instance_norm(x),
    "pool, rounded up": lambda x, s, i: F.max_pool2d(x, 3, 2, ceil_mode=True) + F.avg_pool2d(x, 3, 2, ceil_mode=True),
    "padding counted": lambda x, s, i: F.avg_pool2d(x, 3, 1, 1),
    "padding left out": lambda x, s, i: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False),
    "pool of a sequence": lambda x, s, i: F.max_pool1d(s, 2) + F.avg_pool1d(s, 2, 2),
    "adaptive": lambda x, s, i: F.adaptive_avg_pool2d(x, 3) + F.adaptive_max_pool2d(x, (3, 1)),
    "nearest": lambda x, s, i: F.interpolate(x, scale_factor=2),
    "nearest exact": lambda x, s, i: F.interpolate(x, size=(12, 18), mode="nearest-exact"),
    "pads": lambda x, s, i: F.pad(x, (1, 2, 0, 1), value=0.5) + F.pad(x, (1, 2, 1, 0), mode="reflect"),
    "edges": lambda x, s, i: F.pad(x, (1, 1, 2, 2), mode="replicate"),
    "slices": lambda x, s, i: x[:, 1:7:2, -2:, 1:3] + x.narrow(1, 2, 3)[..., :2, ::3],
    "select": lambda x, s, i: x[:, -1] + x.select(1, 0),
    "index": lambda x, s, i: x[:, i] + x.index_select(1, i),
    "parts": lambda x, s, i: torch.stack([*x.split([3, 3, 2], 1)[:2], x.chunk(3, 1)[0]], 2),
    "unbound": lambda x, s, i: x.unbind(2)[1] + x.tensor_split(2, 3)[0].flatten(2)[..., :6],
    "moves": lambda x, s, i: x.movedim(1, -1).swapaxes(1, 2) + x.permute(0, 3, 2, 1),
    "transposed": lambda x, s, i: x[0, 0].t() + x.mT[1, 1],
    "expanded": lambda x, s, i: x.mean((2, 3), keepdim=True).expand_as(x) + x[:, :1].expand(-1, 8, -1, -1),
    "repeated": lambda x, s, i: x.repeat(1, 2, 1, 1) + torch.tile(x, (2, 1, 1)),
    "turned": lambda x, s, i: x.flip(2, 1).roll((1, -2), (1, 3)).cumsum(1),
    "shuffled": lambda x, s, i: F.channel_shuffle(x, 4),
    "unflattened": lambda x, s, i: x.unflatten(1, (2, 4)).squeeze().unsqueeze(0)[0].flatten(1, 2),
    "products": lambda x, s, i: (s @ s.transpose(1, 2)).bmm(s) + s.matmul(s[0].t())[..., :1],
    "vectors": lambda x, s, i: s @ s[0, 0] + (s[0, 0] @ s.transpose(1, 2)).sum(),
    "added products": lambda x, s, i: torch.addmm(s[0], s[0], s[1].t() @ s[1], beta=0.5, alpha=2),
    "batched added": lambda x, s, i: torch.baddbmm(s, s, s.transpose(1, 2) @ s),
    "sums of products": lambda x, s, i: torch.einsum("nchw,nchv->ncwv", x, x) + torch.einsum("nchw,ncvw->nchv", x, x),
    "several summed": lambda x, s, i: torch.einsum("nchw,nkhw->kcn", x, x[:, :3]),
    "a sum by a matrix": lambda x, s, i: torch.einsum("nchw,vh->nvwc", x, x[0, 0]),
    "attention": lambda x, s, i: F.scaled_dot_product_attention(x, x, x, is_causal=True, scale=0.3),
    "masked attention": lambda x, s, i: F.scaled_dot_product_attention(x, x, x, attn_mask=x[0, 0] > -5),
    "biased attention": lambda x, s, i: F.scaled_dot_product_attention(x, x, x, attn_mask=x[0, 0]),
    "cast": lambda x, s, i: x.to(torch.float64).float() + x.type_as(s) + i.sum().float(),
    "positions": lambda x, s, i: s + torch.arange(12).div(3, rounding_mode="floor") * torch.linspace(0, 1, 12),
    "mask": lambda x, s, i: s[:, :5, :5].masked_fill(torch.ones(5, 5).triu(1).bool(), -9.0),
    "looked up": lambda x, s, i: s + torch.arange(24.0).view(2, 12).repeat(3, 1)[torch.tensor([4, 1, 0, 2, 5])],
    "joined": lambda x, s, i: s + torch.cat([torch.ones(4), torch.stack([torch.arange(4), torch.ones(4)]).flatten()]),
    "created": lambda x, s, i: s + torch.full_like(s, 2.0) + torch.zeros(12) + torch.eye(12)[:5].clone().neg_(),
    "without gradient": lambda x, s, i: _without_gradient(x),
}


def _without_gradient(x: Any) -> Any:
    with torch.no_grad():
        y = x * 2
    return y + 1


@pytest.fixture(scope="module")
def cases() -> tuple[Draft, list[np.ndarray], list[Any]]:
    """All operators in one program: what PyTorch computes, and what the draft does."""
    torch.manual_seed(1)
    inputs = [torch.randn(2, 8, 6, 6), torch.randn(2, 5, 12), torch.tensor([3, 0, 5])]
    network = _function(lambda *inputs: tuple(case(*inputs) for case in IMAGE.values()))
    draft = read_torch(_exported(network, *inputs), {})
    with torch.no_grad():
        expected = [tensor.double() for tensor in network(*inputs)]
    return draft, _run(draft, inputs, expected), expected


def test_no_operator_of_the_table_is_unknown(cases: Any) -> None:
    assert cases[0].finish().graph.unknown == ()


@pytest.mark.parametrize("name", IMAGE)
def test_operators_compute_what_pytorch_computes(name: str, cases: Any) -> None:
    place = list(IMAGE).index(name)
    np.testing.assert_allclose(cases[1][place], cases[2][place].numpy(), rtol=1e-4, atol=1e-5)


# --- torchvision, where it is installed -------------------------------------------------------------------------------


def _promotions(x: Any, whole: Any, small: Any, truth: Any) -> tuple[Any, ...]:
    return (
        *(x > 0, x < 0.25, whole == 1, whole < 0.5, whole >= x, truth == True, small > 1),  # noqa: E712
        *(whole / 2, whole * 0.5, 1.0 - whole, whole + x, truth * x, small / 255.0, small + whole, whole**0.5),
        *(torch.where(x > 0, x, 0.0), torch.where(truth, whole, x), torch.where(x > 0, 1.0, -1.0), whole.sigmoid()),
        *(x.masked_fill(whole == 0, -3), x.masked_fill(~truth, 0.5), (x > 0) & truth | (whole > 1)),
        *(x.mean() * 3 + 1, whole + torch.ones(()), torch.maximum(x, torch.tensor(0.3)), x * torch.arange(5) / 3),
    )


def test_operands_of_several_data_types_are_brought_to_one() -> None:
    onnxruntime, exporter = pytest.importorskip("onnxruntime"), pytest.importorskip("leti.generator.export.onnx")
    whole = torch.tensor([[0, 1, 2, 1, 0], [2, 2, 1, 0, 1]])
    x = torch.tensor([[-1.5, 0.0, 0.2, 0.7, 1.0], [2.0, -0.1, 0.3, 3.0, -2.0]])
    inputs = (x, whole, whole.to(torch.uint8), whole > 0)
    imported = import_model(_exported(_function(_promotions), *inputs), weights=True)
    assert not imported.graph.unknown
    session = onnxruntime.InferenceSession(exporter.export_onnx(imported.graph, weights=imported.weights))
    made = session.run(None, {value.name: t.numpy() for value, t in zip(session.get_inputs(), inputs, strict=True)})
    for i, (got, expected) in enumerate(zip(made, _promotions(*inputs), strict=True)):
        assert got.dtype == expected.numpy().dtype, i
        np.testing.assert_allclose(got, expected.numpy(), rtol=1e-6, atol=1e-6, err_msg=str(i))


@pytest.fixture(scope="module")
def torchvision_models() -> ModuleType:
    """``benchmarks/torchvision_models.py``, which prints all of its models."""
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed")
    import torchvision_models

    return torchvision_models


SWIN_CONSTANTS = 12 * 49 * 49 + (8 * 8 + 4 * 4 + 3 * 2 * 2) * 49 * 49
"""Positions of twelve blocks; masks of the five blocks whose windows are shifted, one a window."""


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "shufflenet_v2_x1_0", "vit_b_16", "swin_t"])
def test_torchvision_agrees_with_what_is_published(name: str, torchvision_models: ModuleType) -> None:
    row = torchvision_models.measure(name)
    graph = row.imported.graph
    assert graph.unknown == ()
    assert graph.macs == row.counted_macs
    published = torchvision_models.PUBLISHED_GMACS[name] * 1e9
    assert abs(graph.macs - published) <= 0.01 * published + 5e6  # published with two decimals
    assert graph.params == row.params + (SWIN_CONSTANTS if name == "swin_t" else 0)


# --- the same network, built in Keras ---------------------------------------------------------------------------------


def _keras_vgg(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [
            *(keras.Input((16, 16, 3)), layers.Conv2D(4, 3, padding="same", activation="relu"), layers.MaxPooling2D()),
            *(layers.Conv2D(8, 3, padding="same"), layers.ReLU(), layers.MaxPooling2D(), layers.Flatten()),
            *(layers.Dense(12, activation="relu"), layers.Dropout(0.5), layers.Dense(5)),
        ]
    )


def _torch_vgg() -> Any:
    return nn.Sequential(
        *(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(True), nn.MaxPool2d(2)),
        *(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(True), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(128, 12), nn.ReLU(True), nn.Dropout(), nn.Linear(12, 5)),
    )


def _keras_resnet(keras: Any) -> Any:
    layers = keras.layers

    def norm_conv(x: Any, channels: int, kernel: int, stride: int = 1) -> Any:
        x = layers.ZeroPadding2D(kernel // 2)(x) if kernel > 1 else x
        return layers.BatchNormalization()(layers.Conv2D(channels, kernel, stride, use_bias=False)(x))

    def residual(x: Any, channels: int, stride: int = 1) -> Any:
        out = norm_conv(layers.ReLU()(norm_conv(x, channels, 3, stride)), channels, 3)
        shortcut = norm_conv(x, channels, 1, stride) if stride > 1 or x.shape[-1] != channels else x
        return layers.ReLU()(layers.Add()([out, shortcut]))

    image = keras.Input((32, 32, 3))
    x = layers.ReLU()(norm_conv(image, 8, 7, 2))
    x = layers.MaxPooling2D(3, 2)(x)  # padded, it would be with zeros, not with the lowest number
    x = residual(residual(x, 8), 16, 2)
    return keras.Model(image, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


@pytest.mark.parametrize(
    ("build", "make", "size"),
    [(_keras_vgg, _torch_vgg, 16), (_keras_resnet, partial(networks.ResNet, border=0), 32)],
    ids=["vgg", "resnet"],
)
def test_the_same_network_in_keras_is_the_same_graph(
    build: Callable[[Any], Any], make: Callable[[], Any], size: int
) -> None:
    keras = pytest.importorskip("keras")
    mine = import_model(_exported(make(), torch.zeros(1, 3, size, size))).graph
    theirs = import_model(build(keras)).graph
    assert Counter(op.kind for op in mine.ops) == Counter(op.kind for op in theirs.ops)
    assert mine.fingerprint() == theirs.fingerprint()
