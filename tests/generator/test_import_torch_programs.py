"""PyTorch import: what programs do beside operators: writes in place, control flow, open shapes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leti.core.errors import ArtifactError, InvalidInput
from leti.core.graph import TensorType
from leti.generator.importers import import_model
from leti.generator.importers.torch import read_torch
from leti.generator.importers.torch.program import evaluate

torch = pytest.importorskip("torch")
nn, F = torch.nn, torch.nn.functional


def _exported(function: Callable[..., Any] | Any, *inputs: Any, **more: Any) -> Any:
    network = function if isinstance(function, nn.Module) else _Function(function)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's, about itself
        return torch.export.export(network.eval(), inputs, **more)


class _Function(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Any) -> Any:
        return self.function(*inputs)


def _kinds(program: Any) -> list[str]:
    return [op.kind for op in import_model(program, fold=False).graph.ops]


def _saved(program: Any, folder: Path) -> Path:
    path = folder / "model.pt2"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, path)
    return path


# --- writes in place --------------------------------------------------------------------------------------------------


def test_what_is_read_after_a_write_is_what_was_written() -> None:
    def function(x: Any) -> Any:
        y = x * 2
        z = y.relu_()
        return y + z.sigmoid()

    program = _exported(function, torch.ones(1, 4))
    assert _kinds(program) == ["scale", "relu", "sigmoid", "add"]
    graph = import_model(program).graph
    assert graph.wiring[-1] in ((2, 3), (3, 2))  # the sum reads the relu, not what the relu reads


def test_parts_of_a_split_are_written_to_apart() -> None:
    def function(x: Any) -> Any:
        left, right = x.chunk(2, 1)
        left.relu_()
        return torch.cat([left, right], 1)

    assert _kinds(_exported(function, torch.ones(1, 4))) == ["split", "relu", "concat"]


def test_a_write_through_a_view_is_read_functionally() -> None:
    def function(x: Any) -> Any:
        y = x * 2
        y[:, 1] = 0.0
        return y.sigmoid()

    program = _exported(function, torch.ones(1, 4))
    assert "sigmoid" in _kinds(program)
    assert import_model(program).graph.unknown  # the scatter is kept, and said


def test_a_file_that_writes_through_a_view_says_how_to_save_it(tmp_path: Path) -> None:
    def function(x: Any) -> Any:
        y = x * 2
        y.view(2, 2).relu_()
        return y

    with pytest.raises(InvalidInput, match="run_decompositions"):
        import_model(_saved(_exported(function, torch.ones(1, 4)), tmp_path))


def test_constants_that_are_written_part_by_part_are_computed() -> None:
    def function(x: Any) -> Any:
        mask = x.new_zeros(4, 4)
        mask[1:3, :2] = 7.0
        mask.view(16)[0] = 5.0
        return x + mask

    imported = import_model(_exported(function, torch.ones(4, 4)), weights=True)
    assert [op.kind for op in imported.graph.ops] == ["shift"]
    assert imported.weights is not None
    expected = np.zeros((4, 4), np.float32)
    expected[1:3, :2], expected[0, 0] = 7, 5
    np.testing.assert_array_equal(imported.weights[0][0], expected)


def test_a_cast_makes_another_tensor() -> None:
    def function(x: Any) -> Any:
        y = x * 2
        return y.to(torch.float16).relu_().float() + y

    program = _exported(function, torch.ones(1, 4))
    assert _kinds(program) == ["scale", "cast", "relu", "cast", "add"]
    assert import_model(program).graph.ops[-1].inputs == (TensorType((1, 4)),) * 2


def test_the_same_tensor_by_another_name_is_written_to() -> None:
    def function(x: Any) -> Any:
        y = x * 2
        F.dropout(y, training=False).relu_()
        return y.sigmoid()

    assert _kinds(_exported(function, torch.ones(1, 4))) == ["scale", "relu", "sigmoid"]


def test_a_copy_is_written_to_apart() -> None:
    def function(x: Any) -> Any:
        y = x * 2
        return y.clone().relu_() + y

    graph = import_model(_exported(function, torch.ones(1, 4))).graph
    assert sorted(graph.wiring[-1]) == [1, 2]  # what was scaled, and its relu


# --- what is kept as unknown ------------------------------------------------------------------------------------------


def test_control_flow_is_kept_as_unknown() -> None:
    program = _exported(lambda x: torch.cond(x.sum() > 0, lambda x: x + 1, lambda x: x * 2, (x,)).relu(), torch.ones(3))
    assert import_model(program).graph.unknown == ("unknown:cond",)


def test_an_unknown_operator_keeps_its_shapes_and_its_parameters() -> None:
    network = nn.LSTM(8, 5, batch_first=True)

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = network

        def forward(self, x: Any) -> Any:
            return self.lstm(x)[0]

    graph = import_model(_exported(Last(), torch.ones(2, 3, 8)), fold=False).graph
    (op,) = [op for op in graph.ops if op.is_unknown]
    assert op.kind == "unknown:lstm"
    assert op.outputs[0] == TensorType((2, 3, 5))
    zeros = 2 * 1 * 2 * 5  # the states that it begins with
    assert op.params == sum(p.numel() for p in network.parameters()) + zeros


def test_a_model_in_training_mode_is_refused() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(network, (torch.ones(2, 3, 8, 8),))
    with pytest.raises(InvalidInput, match="eval"):
        import_model(program)


@pytest.mark.parametrize("model", [nn.Linear(2, 2), torch.ones(2)])
def test_what_is_no_exported_program_is_refused(model: Any) -> None:
    with pytest.raises(InvalidInput, match=r"torch\.export\.export"):
        import_model(model)


def test_a_half_precision_model_keeps_its_type() -> None:
    program = _exported(nn.Linear(4, 2).to(torch.bfloat16), torch.ones(1, 4, dtype=torch.bfloat16))
    imported = import_model(program, weights=True)
    assert imported.graph.inputs == (TensorType((1, 4), "bfloat16"),)
    (op,) = imported.graph.ops
    assert op.weight_bytes == 2 * (8 + 2)
    assert imported.weights is not None
    weight = dict(program.state_dict)["weight"].detach().float().numpy()
    np.testing.assert_array_equal(imported.weights[0][0], weight)


def test_a_shared_parameter_is_read_as_one_constant() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    network[2] = network[0]
    draft = read_torch(_exported(network, torch.ones(1, 4)), {})
    first, last = (node.weights[0] for node in draft.nodes if node.kind == "fully_connected")
    assert first is last


# --- shapes -----------------------------------------------------------------------------------------------------------


def test_open_sizes_are_asked_for() -> None:
    size = torch.export.Dim("size", min=4, max=512)
    program = _exported(
        lambda x: F.avg_pool2d(x, 2).relu(), torch.ones(1, 3, 16, 16), dynamic_shapes={"inputs": ({2: size},)}
    )
    with pytest.raises(InvalidInput, match=r"--input-shape inputs_0=1,3,\?,16"):
        import_model(program)
    graph = import_model(program, input_shapes={"": (1, 3, 24, 16)}).graph
    assert graph.inputs == (TensorType((1, 24, 16, 3)),)
    assert graph.ops[-1].outputs == (TensorType((1, 12, 8, 3)),)
    with pytest.raises(InvalidInput, match="exported for"):
        import_model(program, input_shapes={"": (1, 3, 24, 18)})
    with pytest.raises(InvalidInput, match="no input"):
        import_model(program, input_shapes={"image": (1, 3, 24, 16)})
    with pytest.raises(InvalidInput, match="dimensions"):
        import_model(program, input_shapes={"": (1, 3, 24)})


def test_an_open_batch_is_one_unless_it_is_said() -> None:
    program = _exported(
        nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), torch.ones(4, 3, 4), dynamic_shapes=({0: torch.export.Dim("n")},)
    )
    assert import_model(program).graph.batch == 1
    assert import_model(program, input_shapes={"": (7, 3, 4)}).graph.outputs
    assert import_model(program, input_shapes={"": (7, 3, 4)}).graph.batch == 7


def test_sizes_are_evaluated_as_sympy_writes_them() -> None:
    symbol = "Symbol('s77', positive=True, integer=True)"
    text = f"FloorDiv(Mul(Integer(6), {symbol}), Add({symbol}, Integer(-1)))"
    assert evaluate(text, {"s77": 4}) == 8
    assert evaluate(f"Mul(Rational(1, 2), {symbol})", {"s77": 4}) == 2
    with pytest.raises(InvalidInput, match="s77"):
        evaluate(symbol, {})


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "Integer(2).__class__",
        "Pow(Integer(9), Integer(999999999))",
        "Mul(Rational(1, 3), Integer(2))",
        "FloorDiv(Integer(1), Integer(0))",
        "lambda: 0",
        "(" * 1500,
        "Integer(" * 300,
        "-" * 1900 + "1",
        "Add(1, [2])",
        "",
        "x" * 3000,
    ],
)
def test_other_expressions_are_no_sizes(text: str) -> None:
    with pytest.raises(ArtifactError):
        evaluate(text, {"s77": 4})
