"""Quantisation-aware training: filters are rounded on the way forward, and gradients pass as if they were not.

The straight-through estimator of "Estimating or Propagating Gradients Through Stochastic Neurons" (Bengio et al.,
2013), on simulated quantisation as in "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference" (Jacob et al., 2018).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, Final, final

from typing_extensions import override

from leti.compression.quantizing.affine import LEAST_RANGE, MAX_BITS, MIN_BITS
from leti.core.errors import InvalidInput
from leti.core.extras import needs

with needs("compression"):
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

    Works on any module: what is rounded are its parameters of two dimensions or more. Activations are not rounded here;
    the back ends find their ranges afterwards.
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
