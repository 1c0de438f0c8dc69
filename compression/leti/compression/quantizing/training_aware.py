"""Quantisation-aware training: filters are rounded on the way forward, and gradients pass as if they were not.

The straight-through estimator of "Estimating or Propagating Gradients Through Stochastic Neurons" (Bengio et al.,
2013), on simulated quantisation as in "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference" (Jacob et al., 2018).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, final

from typing_extensions import override

from leti.compression.quantizing.affine import LEAST_RANGE, MAX_BITS, MIN_BITS, Affine, affine
from leti.compression.training.executing import Taps, executable
from leti.core.errors import InvalidInput
from leti.core.extras import needs
from leti.generator.importers import Imported
from leti.generator.precision import quantized
from leti.generator.weights import Array

with needs("compression"):
    import numpy as np
    import torch

_FIRST: Final[Mapping[str, int | None]] = MappingProxyType({})


def rounded(values: torch.Tensor, bits: int, axis: int | None = 0) -> torch.Tensor:
    """Return values as symmetric numbers of ``bits`` bits say them; the gradient is that of the values themselves.

    A scale serves each slice along ``axis``, of the greatest magnitude in it, or all values. The same numbers as
    :func:`leti.compression.quantizing.affine.fitted` finds.
    """
    made: torch.Tensor = _StraightThrough.apply(values, bits, axis)  # type: ignore[no-untyped-call]
    return made


@final
class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, values: torch.Tensor, bits: int, axis: int | None) -> torch.Tensor:
        most = 2 ** (bits - 1) - 1
        axes = [i for i in range(values.ndim) if i != axis]
        reach = values.abs().amax(dim=axes, keepdim=True).double()
        scales = (torch.where(reach == 0, LEAST_RANGE, reach) / most).to(values.dtype)
        made: torch.Tensor = torch.clamp(torch.round(values / scales), -most, most) * scales
        return made

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return gradients[0], None, None


@final
class QuantizationAware(torch.nn.Module):
    """A module whose filters are rounded whenever it runs; the parameters that are trained are its own, in float32.

    Works on any module: what is rounded are its parameters of two dimensions or more. Activations are rounded by
    :func:`rounded_activations`, where the network is made of a graph.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        bits: int | Mapping[str, int] = 8,
        *,
        kept: Collection[str] = (),
        axes: Mapping[str, int | None] = _FIRST,
    ) -> None:
        """Round to ``bits``, one number or one for each parameter by its name; those ``kept`` stay float32.

        Output channels, which get a scale each, lie first, as in PyTorch's convolutions and linear layers; ``axes``
        says of others where they lie (second in transposed convolutions), or ``None`` for one scale in all. Raises
        :class:`~leti.core.errors.InvalidInput` for names that are no filters, and bits out of 2 to 16.
        """
        super().__init__()
        self.module = module
        filters = {name: parameter for name, parameter in module.named_parameters() if parameter.ndim >= 2}
        asked = dict.fromkeys(filters, bits) if isinstance(bits, int) else dict(bits)
        for field, names in (("bits", asked), ("kept", kept), ("axes", axes)):
            unknown = sorted(set(names) - set(filters))
            if unknown:
                raise InvalidInput(f"has no filters {unknown[0]!r}", field=field, remedy=f"one of {', '.join(filters)}")
        for name, width in asked.items():
            if not MIN_BITS <= width <= MAX_BITS:
                raise InvalidInput(f"is {width}", field=f"bits[{name}]", remedy=f"{MIN_BITS} to {MAX_BITS}")
        self._axes = dict(axes)
        self.bits: Mapping[str, int] = {name: width for name, width in asked.items() if name not in kept}

    @override
    def forward(self, *inputs: Any) -> Any:
        """Return what the module makes with its filters rounded."""
        return torch.func.functional_call(self.module, self._rounded(), inputs)

    def freeze(self) -> torch.nn.Module:
        """Return the module with its filters rounded for good."""
        named = dict(self.module.named_parameters())
        with torch.no_grad():
            for name, values in self._rounded().items():
                named[name].copy_(values)
        return self.module

    def _rounded(self) -> dict[str, torch.Tensor]:
        named = dict(self.module.named_parameters())
        return {name: rounded(named[name], width, self._axes.get(name, 0)) for name, width in self.bits.items()}


@final
class RoundedActivation(torch.nn.Module):
    """A tap that rounds what passes to the numbers of a range; gradients pass where values lie in it."""

    def __init__(self, numbers: Affine) -> None:
        super().__init__()
        self.numbers: Final = numbers
        self._scale, self._zero = float(numbers.scales[0]), int(numbers.zero_points[0])

    @override
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return values as the numbers say them."""
        low, high = ((end - self._zero) * self._scale for end in (self.numbers.low, self.numbers.high))
        held = values.clamp(low, high)
        said = (torch.round(held / self._scale) * self._scale).detach()
        return held + (said - held.detach())


def rounded_activations(imported: Imported, batches: Iterable[Array], *, bits: int = 8) -> Taps:
    """Return taps that round every value that a file of whole numbers keeps between two kernels, asymmetrically.

    Ranges span what ``batches`` of a network's one input make, before anything is trained. Raises
    :class:`~leti.core.errors.InvalidInput` for no batches, for several inputs, and bits out of 2 to 16.
    """
    graph = imported.graph
    if len(graph.inputs) != 1:
        raise InvalidInput(f"has {len(graph.inputs)} inputs", field="imported", remedy="give a network of one")
    form = quantized(graph, "full_integer")
    firsts = graph.first_values()
    within = {i for kernel in form.graph.kernels for i in kernel[:-1]}
    stored = [
        firsts[origin]
        for number, (origin, op) in enumerate(zip(form.origins, form.graph.ops, strict=True))
        if origin >= 0 and number not in within and [t.dtype for t in op.outputs] == ["int8"]
    ]
    values = sorted({0, *stored})
    network = executable(imported, values=values)
    seen: list[list[tuple[float, float]]] = []
    with torch.inference_mode():
        for batch in batches:
            made = network(torch.from_numpy(np.ascontiguousarray(batch)))[len(graph.outputs) :]
            seen.append([(float(value.min()), float(value.max())) for value in made])
    if not seen:
        raise InvalidInput("are missing, which ranges are found on", field="batches", remedy="give at least one")
    ranges = [(min(low for low, _ in column), max(high for _, high in column)) for column in zip(*seen, strict=True)]
    return {v: RoundedActivation(affine(low, high, bits=bits)) for v, (low, high) in zip(values, ranges, strict=True)}
