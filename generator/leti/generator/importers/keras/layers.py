"""The table of Keras's layers: what each places, by the name of its class.

A rule takes the place, the layer, and what the layer was called with; it returns None for what has no counterpart in
the vocabulary, and the layer is then kept as unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from leti.core.graph import TensorType
from leti.generator.cost import Shape, constant_attribute
from leti.generator.importers.draft import Constant
from leti.generator.importers.keras.activations import activate, relu, softmax
from leti.generator.importers.keras.attention import attention, dot, einsum_dense, einsum_shape, multi_head_attention
from leti.generator.importers.keras.placing import Placed, Placing, Value, padding_of

Rule = Callable[..., Placed]


def _bias(place: Placing, layer: Any) -> list[Constant]:
    return [place.weight(layer.bias)] if layer.use_bias else []


def _window(layer: Any, kernel: Sequence[int], x: Value) -> dict[str, Any]:
    sizes, strides = x.shape[1:-1], tuple(layer.strides)
    dilations = tuple(getattr(layer, "dilation_rate", (1,) * len(sizes)))
    padding = padding_of(layer.padding, sizes, tuple(kernel), strides, dilations)
    return {"kernel": tuple(kernel), "strides": strides, "padding": padding, "dilations": dilations}


def _finished(place: Placing, layer: Any, x: Value) -> Value:
    return activate(place, layer.activation, place.layer_format(layer, x))


def _conv(place: Placing, layer: Any, inputs: Value) -> Placed:
    x = place.channels_last(layer, inputs)
    window, groups, bias = _window(layer, layer.kernel_size, x), layer.groups, _bias(place, layer)
    kernel, rank = place.weight(layer.kernel), layer.rank  # (*window, in / groups, out)
    if rank == 2 and groups == x.shape[-1] and groups > 1:
        kind, kernel = "depthwise_conv2d", kernel.transposed((2, 0, 1, 3))
    else:
        kind, kernel = f"conv{rank}d", kernel.transposed((rank + 1, *range(rank + 1)))
        window["groups"] = groups
    made = place.op(kind, x, place.windows_output(layer), kernel, *bias, bias=layer.use_bias, **window)
    return _finished(place, layer, made)


def _depthwise(place: Placing, layer: Any, x: Value, kernel: Constant, bias: Sequence[Constant]) -> Value:
    """Place a convolution of each channel on its own; kernels lie as ``(*window, in, multiplier)``."""
    *window, given, multiplier = kernel.shape
    rank, channels, attributes = len(window), given * multiplier, _window(layer, window, x)
    sizes = place.windows_output(layer)[1:-1]
    shape = (x.shape[0], *sizes, channels)
    if rank == 2:
        filters = kernel.reshaped((1, *window, channels))
        return place.op("depthwise_conv2d", x, shape, filters, *bias, bias=bool(bias), **attributes)
    filters = kernel.transposed((rank, rank + 1, *range(rank))).reshaped((channels, *window, 1))
    return place.op(f"conv{rank}d", x, shape, filters, *bias, bias=bool(bias), groups=given, **attributes)


def _depthwise_conv(place: Placing, layer: Any, inputs: Value) -> Placed:
    x = place.channels_last(layer, inputs)
    return _finished(place, layer, _depthwise(place, layer, x, place.weight(layer.kernel), _bias(place, layer)))


def _separable_conv(place: Placing, layer: Any, inputs: Value) -> Placed:
    x = place.channels_last(layer, inputs)
    inside = place.within("depthwise")
    x = _depthwise(inside, layer, x, inside.weight(layer.depthwise_kernel), ())
    rank = layer.rank
    kernel = place.weight(layer.pointwise_kernel).transposed((rank + 1, *range(rank + 1)))
    ones, bias = (1,) * rank, _bias(place, layer)
    shape = (*x.shape[:-1], layer.filters)
    x = place.op(
        f"conv{rank}d", x, shape, kernel, *bias, kernel=ones, strides=ones, padding="same", bias=layer.use_bias
    )
    return _finished(place, layer, x)


def _transpose_conv(place: Placing, layer: Any, inputs: Value) -> Placed:
    if layer.rank != 2 or layer.output_padding is not None:
        return None
    x = place.channels_last(layer, inputs)
    shape = place.windows_output(layer)
    window = _window(layer, layer.kernel_size, x)
    window["padding"] = padding_of(layer.padding, shape[1:-1], window["kernel"], window["strides"], window["dilations"])
    kernel = place.weight(layer.kernel).transposed((2, 0, 1, 3))  # (*window, out, in)
    made = place.op("transpose_conv2d", x, shape, kernel, *_bias(place, layer), bias=layer.use_bias, **window)
    return _finished(place, layer, made)


def _dense(place: Placing, layer: Any, x: Value) -> Placed:
    x = x if "float" in x.type.dtype else place.cast(x, place.output.dtype)
    kernel = place.weight(layer.kernel).transposed((1, 0))
    bias = _bias(place, layer)
    made = place.op("fully_connected", x, (*x.shape[:-1], layer.units), kernel, *bias, bias=layer.use_bias)
    return activate(place, layer.activation, made)


def _embedding(place: Placing, layer: Any, x: Value) -> Placed:
    indices = x if x.type.dtype in ("int32", "int64", "uint8") else place.cast(x, "int32")
    table = place.weight(layer.embeddings)
    dtype = place.output.dtype
    return place.op("embedding", indices, (*x.shape, layer.output_dim), table, dtype=dtype, rows=layer.input_dim)


def _batch_norm(place: Placing, layer: Any, x: Value, mask: Any = None, training: Any = None) -> Placed:
    kept = ([layer.gamma] if layer.scale else []) + ([layer.beta] if layer.center else [])
    weights = [place.weight(w) for w in (*kept, layer.moving_mean, layer.moving_variance)]
    said = {"epsilon": float(layer.epsilon), "scale": layer.scale, "center": layer.center}
    made = place.op("batch_norm", place.move_last(x, layer.axis), None, *weights, **said)
    return place.move_from_last(made, layer.axis)


def _norm_axes(place: Placing, layer: Any, x: Value, kind: str, weights: Sequence[Any], **said: Any) -> Placed:
    """Place a norm over one dimension, or over several that are the last: those count as one."""
    axes = sorted(x.axis(a) for a in (layer.axis if isinstance(layer.axis, (tuple, list)) else (layer.axis,)))
    rest = [i for i in range(len(x.shape)) if i not in axes]
    moved = place.transpose(x, [*rest, *axes])
    flat = place.reshape(moved, (*(x.shape[i] for i in rest), -1))
    kept = [place.weight(w).reshaped((flat.shape[-1],)) for w in weights]
    made = place.reshape(place.op(kind, flat, None, *kept, epsilon=float(layer.epsilon), **said), moved.shape)
    order = [*rest, *axes]
    return place.transpose(made, [order.index(i) for i in range(len(order))])


def _layer_norm(place: Placing, layer: Any, x: Value) -> Placed:
    if layer.rms_scaling:
        return None
    weights = ([layer.gamma] if layer.scale else []) + ([layer.beta] if layer.center else [])
    made = _norm_axes(place, layer, x, "layer_norm", weights, scale=layer.scale, center=layer.center)
    return place.cast(made, place.output.dtype) if isinstance(made, Value) else made


def _rms_norm(place: Placing, layer: Any, x: Value) -> Placed:
    return _norm_axes(place, layer, x, "rms_norm", [layer.scale])


def _group_norm(place: Placing, layer: Any, x: Value) -> Placed:
    kept = ([layer.gamma] if layer.scale else []) + ([layer.beta] if layer.center else [])
    said = {"epsilon": float(layer.epsilon), "scale": layer.scale, "center": layer.center}
    weights = map(place.weight, kept)
    made = place.op("group_norm", place.move_last(x, layer.axis), None, *weights, groups=layer.groups, **said)
    return place.move_from_last(made, layer.axis)


def _unit_norm(place: Placing, layer: Any, x: Value) -> Placed:
    axes = layer.axis if isinstance(layer.axis, (tuple, list)) else (layer.axis,)
    return place.op("l2_normalize", x, axes=tuple(sorted(x.axis(a) for a in axes)))


def _normalization(place: Placing, layer: Any, x: Value) -> Placed:
    last = len(x.shape) - 1
    x = place.cast(x, place.output.dtype)
    if layer.invert:
        return None
    if layer.input_mean is None:
        if layer._keep_axis != (last,):
            return None
        weights = [place.weight(w) for w in (layer.adapt_mean, layer.adapt_variance, layer.count)]
        return place.op("normalization", x, None, *weights)
    shape = tuple(layer._broadcast_shape)
    mean, variance = (
        np.broadcast_to(np.asarray(values, np.float32), shape) for values in (layer.input_mean, layer.input_variance)
    )
    if shape[-1] > 1 and shape[:-1] == (1,) * last and layer._keep_axis == (last,):
        weights = [Constant.of(values.reshape(-1), x.type.dtype) for values in (mean, variance)]
        return place.op("normalization", x, None, *weights, adapted=False)
    x = place.binary("sub", x, Constant.of(mean, x.type.dtype))
    return place.binary("div", x, Constant.of(np.maximum(np.sqrt(variance), 1e-7), x.type.dtype))


def _rescaling(place: Placing, layer: Any, x: Value) -> Placed:
    x = place.cast(x, place.output.dtype)
    for kind, number, neutral in (("mul", layer.scale, 1), ("add", layer.offset, 0)):
        if np.any(np.asarray(number) != neutral):
            x = place.binary(kind, x, Constant.of(np.asarray(number, np.float32), x.type.dtype))
    return x


def _resize(place: Placing, layer: Any, inputs: Value, **_training: Any) -> Placed:
    odd = any(getattr(layer, name, False) for name in ("crop_to_aspect_ratio", "pad_to_aspect_ratio", "antialias"))
    if odd or layer.interpolation not in ("nearest", "bilinear") or len(inputs.shape) != 4:
        return None
    x = place.channels_last(layer, inputs)
    shape = place.windows_output(layer)
    made = x if shape == x.shape else place.op("resize", x, shape, method=layer.interpolation)
    return place.layer_format(layer, made)


def _upsampling1d(place: Placing, layer: Any, x: Value) -> Placed:
    batch, length, channels = x.shape
    image = place.reshape(x, (batch, length, 1, channels))
    made = place.op("resize", image, (batch, length * layer.size, 1, channels), method="nearest")
    return place.reshape(made, place.output.shape)


def _pool(place: Placing, layer: Any, inputs: Value) -> Placed:
    x = place.channels_last(layer, inputs)
    kind = "avg_pool" if layer.pool_mode == "average" else "max_pool"
    made = place.op(f"{kind}{len(x.shape) - 2}d", x, place.windows_output(layer), **_window(layer, layer.pool_size, x))
    return place.layer_format(layer, made)


def _global_pool(kind: str) -> Rule:
    def rule(place: Placing, layer: Any, x: Value, mask: Any = None) -> Placed:
        if mask is not None:
            return None
        first = 2 if layer.data_format == "channels_first" else 1
        axes = tuple(range(first, first + len(x.shape) - 2))
        return place.op(kind, x, place.output.shape, axes=axes, keep_dims=layer.keepdims)

    return rule


def _pairs(layer: Any, name: str, rank: int) -> list[tuple[int, int]]:
    """Return what is padded or cropped before and after each dimension."""
    given = getattr(layer, name)
    pairs = [tuple(pair) for pair in given] if isinstance(given[0], (tuple, list)) else [tuple(given)]
    if getattr(layer, "data_format", "channels_last") == "channels_first":
        return [(0, 0), (0, 0), *pairs]
    return [(0, 0), *pairs, (0, 0)]


def _zero_padding(place: Placing, layer: Any, x: Value) -> Placed:
    pairs = _pairs(layer, "padding", len(x.shape))
    return place.op("pad", x, place.output.shape, paddings=tuple(n for pair in pairs for n in pair))


def _cropping(place: Placing, layer: Any, x: Value) -> Placed:
    begin = tuple(before for before, _ in _pairs(layer, "cropping", len(x.shape)))
    return place.op("slice", x, place.output.shape, begin=begin if any(begin) else ())


def _relu(place: Placing, layer: Any, x: Value) -> Placed:
    return relu(place, x, layer.negative_slope, layer.max_value, layer.threshold)


def _softmax(place: Placing, layer: Any, x: Value, mask: Any = None) -> Placed:
    return softmax(place, x, layer.axis) if mask is None else None


def _prelu(place: Placing, layer: Any, x: Value) -> Placed:
    alpha = place.weight(layer.alpha)
    kept = constant_attribute(alpha.shape, x.shape[-1])
    return place.op("prelu", x, None, alpha.reshaped(kept or x.shape[-1:]), constant=kept)


def _merge(kind: str, *, average: bool = False) -> Rule:
    def rule(place: Placing, layer: Any, inputs: Sequence[Value]) -> Placed:
        rank = max(len(x.shape) for x in inputs)
        inputs = [place.cast(x, place.output.dtype) for x in inputs]
        same = [place.reshape(x, (x.shape[0], *(1,) * (rank - len(x.shape)), *x.shape[1:])) for x in inputs]
        total = same[0]
        for x in same[1:]:
            total = place.binary(kind, total, x)
        return place.with_number("mul", total, 1 / len(inputs)) if average else total

    return rule


def _concatenate(place: Placing, layer: Any, inputs: Sequence[Value]) -> Placed:
    parts = [place.cast(x, place.output.dtype) for x in inputs]
    return place.op("concat", parts, place.output.shape, axis=parts[0].axis(layer.axis))


def _reshape(place: Placing, _layer: Any, x: Value) -> Placed:
    return place.reshape(x, place.output.shape)


def _flatten(place: Placing, layer: Any, x: Value) -> Placed:
    x = place.channels_last(layer, x) if len(x.shape) > 2 else x
    return place.reshape(x, place.output.shape)


def _permute(place: Placing, layer: Any, x: Value) -> Placed:
    return place.transpose(x, (0, *layer.dims))


def _repeat_vector(place: Placing, layer: Any, x: Value) -> Placed:
    row = place.reshape(x, (x.shape[0], 1, x.shape[1]))
    return place.op("tile", row, place.output.shape, multiples=(1, layer.n, 1))


def _identity(place: Placing, _layer: Any, x: Any, *_more: Any, **_options: Any) -> Placed:
    return place.cast(x, place.output.dtype) if isinstance(x, Value) and x.shape == place.output.shape else None


def _time_distributed(place: Placing, layer: Any, x: Value, mask: Any = None, **_options: Any) -> Placed:
    if mask is not None or not isinstance(place.outputs[0], TensorType) or len(place.outputs) != 1:
        return None
    steps = x.shape[0] * x.shape[1]
    made = TensorType((steps, *place.output.shape[2:]), place.output.dtype)
    inside = place.within(layer.layer.name, made)
    (value,) = inside.run(inside, layer.layer, (place.reshape(x, (steps, *x.shape[2:])),))
    return place.reshape(value, place.output.shape)


def _layer_scale(place: Placing, layer: Any, x: Value) -> Placed:
    return place.binary("mul", x, place.weight(layer.gamma))


def _scaled_residual(place: Placing, layer: Any, inputs: Sequence[Value]) -> Placed:
    return place.binary("add", inputs[0], place.with_number("mul", inputs[1], float(layer.scale)))


def _activation(place: Placing, layer: Any, x: Value) -> Placed:
    return activate(place, layer.activation, x)


_ONLY_IN_TRAINING = (
    *("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "AlphaDropout", "GaussianDropout"),
    *("GaussianNoise", "ActivityRegularization", "StochasticDepth", "Identity", "RandomFlip", "RandomRotation"),
    *("RandomZoom", "RandomTranslation", "RandomContrast", "RandomBrightness", "RandomHue", "RandomSaturation"),
    *("RandomSharpness", "RandomGrayscale", "RandomColorJitter", "RandomColorDegeneration", "RandomErasing"),
    *("RandomGaussianBlur", "RandomInvert", "RandomPosterization", "RandomShear", "RandomPerspective"),
    *("RandomElasticTransform", "RandAugment", "AugMix", "MixUp", "CutMix"),
)

LAYERS: Mapping[str, Rule] = {
    **dict.fromkeys(("Conv1D", "Conv2D", "Conv3D"), _conv),
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), _depthwise_conv),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), _separable_conv),
    "Conv2DTranspose": _transpose_conv,
    "Dense": _dense,
    "EinsumDense": einsum_dense,
    "Embedding": _embedding,
    "MultiHeadAttention": multi_head_attention,
    "Attention": attention,
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "RMSNormalization": _rms_norm,
    "GroupNormalization": _group_norm,
    "UnitNormalization": _unit_norm,
    "Normalization": _normalization,
    "Rescaling": _rescaling,
    **dict.fromkeys(("Resizing", "UpSampling2D"), _resize),
    "UpSampling1D": _upsampling1d,
    **{f"{kind}Pooling{rank}D": _pool for kind in ("Average", "Max") for rank in (1, 2, 3)},
    **{f"GlobalAveragePooling{rank}D": _global_pool("mean") for rank in (1, 2, 3)},
    **{f"GlobalMaxPooling{rank}D": _global_pool("reduce_max") for rank in (1, 2, 3)},
    **{f"ZeroPadding{rank}D": _zero_padding for rank in (1, 2, 3)},
    **{f"Cropping{rank}D": _cropping for rank in (1, 2, 3)},
    "Activation": _activation,
    "ReLU": _relu,
    "LeakyReLU": lambda place, layer, x: place.op("leaky_relu", x, alpha=float(layer.negative_slope)),
    "PReLU": _prelu,
    "ELU": lambda place, layer, x: place.op("elu", x, alpha=float(layer.alpha)),
    "Softmax": _softmax,
    "Add": _merge("add"),
    "Subtract": _merge("sub"),
    "Multiply": _merge("mul"),
    "Average": _merge("add", average=True),
    "Maximum": _merge("maximum"),
    "Minimum": _merge("minimum"),
    "Concatenate": _concatenate,
    "Dot": dot,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Permute": _permute,
    "RepeatVector": _repeat_vector,
    "TimeDistributed": _time_distributed,
    **dict.fromkeys(_ONLY_IN_TRAINING, _identity),
    # of the applications
    "LayerScale": _layer_scale,
    "CustomScaleLayer": _scaled_residual,
}
"""What each layer places. Keras's own classes alone are looked up here."""

SHAPES: Mapping[str, Callable[[Any, Shape], Shape]] = {"EinsumDense": einsum_shape}
"""Output shapes of layers that do not say them themselves, even where their input's is known."""
