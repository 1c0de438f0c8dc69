"""Blocks that several search spaces build of: each places its operators on a builder and returns the output's value."""

from __future__ import annotations

from leti.generator.builder import GraphBuilder

Activation = str | None
"""Kind of an activation, such as ``relu`` or ``hard_swish``; ``None`` for none."""


def make_divisible(channels: float, divisor: int = 8) -> int:
    """Return the multiple of ``divisor`` nearest to ``channels``, no more than a tenth below it.

    As "MobileNetV2: Inverted Residuals and Linear Bottlenecks" (Sandler et al., 2018) scales widths.
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def activate(builder: GraphBuilder, value: int, activation: Activation) -> int:
    """Place an activation; none where there is none."""
    return value if activation is None else builder.unary(activation, value)


def conv(
    builder: GraphBuilder,
    value: int,
    channels: int,
    kernel: int,
    stride: int = 1,
    *,
    groups: int = 1,
    activation: Activation = "relu",
) -> int:
    """Place a convolution, batch norm in its weights, and its activation."""
    return activate(builder, builder.conv(value, channels, kernel, stride, groups=groups), activation)


def channel_shuffle(builder: GraphBuilder, value: int, groups: int) -> int:
    """Place the shuffle that lets the next grouped convolution read every group.

    "ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices" (Zhang et al., 2018).
    """
    *sizes, channels = builder.shape(value)
    split = (*sizes, groups, channels // groups)
    turned = (*sizes, channels // groups, groups)
    value = builder.place("reshape", (value,), split)
    value = builder.place("transpose", (value,), turned, perm=(0, 1, 2, 4, 3))
    return builder.place("reshape", (value,), (*sizes, channels))


def squeeze_excite(builder: GraphBuilder, value: int, squeezed: int) -> int:
    """Place the scaling of channels by a gate over their means, through ``squeezed`` channels and a hard sigmoid.

    "Squeeze-and-Excitation Networks" (Hu et al., 2018), in the form of "Searching for MobileNetV3" (Howard et al.,
    2019): both fully connected layers are 1×1 convolutions.
    """
    batch, _, _, channels = shape = builder.shape(value)
    gate = builder.place("mean", (value,), (batch, 1, 1, channels), axes=(1, 2), keep_dims=True)
    gate = conv(builder, gate, squeezed, 1)
    gate = conv(builder, gate, channels, 1, activation="hard_sigmoid")
    return builder.place("mul", (value, gate), shape)


def inverted_residual(
    builder: GraphBuilder,
    value: int,
    channels: int,
    *,
    kernel: int,
    expanded: int,
    stride: int = 1,
    groups: int = 1,
    activation: str = "relu",
    squeezed: int = 0,
    expand_always: bool = False,
) -> int:
    """Place a 1×1 convolution to ``expanded`` channels, a depthwise one, and a 1×1 convolution without activation.

    "MobileNetV2: Inverted Residuals and Linear Bottlenecks" (Sandler et al., 2018). The input is added where it has the
    output's shape. Where ``expanded`` is the input's channels the first convolution is left out, unless
    ``expand_always``. With ``groups``, both 1×1 convolutions are grouped and a channel shuffle follows the first; with
    ``squeezed`` channels, a squeeze-and-excitation follows the depthwise one.
    """
    inner = value
    if expanded != builder.channels(value) or expand_always:
        inner = conv(builder, inner, expanded, 1, groups=groups, activation=activation)
    if groups > 1:
        inner = channel_shuffle(builder, inner, groups)
    inner = activate(builder, builder.depthwise_conv(inner, kernel, stride), activation)
    if squeezed:
        inner = squeeze_excite(builder, inner, squeezed)
    inner = conv(builder, inner, channels, 1, groups=groups, activation=None)
    return builder.add((value, inner)) if builder.shape(inner) == builder.shape(value) and stride == 1 else inner


def residual(builder: GraphBuilder, value: int, inner: int, stride: int) -> int:
    """Place a sum of a block's input and output, a 1×1 convolution on the input where shapes differ, and a ReLU.

    "Deep Residual Learning for Image Recognition" (He et al., 2016), shortcuts of type B.
    """
    if builder.shape(inner) != builder.shape(value) or stride != 1:
        value = builder.conv(value, builder.channels(inner), 1, stride)
    return builder.relu(builder.add((value, inner)))


def relu_conv(builder: GraphBuilder, value: int, channels: int, kernel: int, stride: int = 1) -> int:
    """Place a ReLU and a convolution, batch norm in its weights."""
    return builder.conv(builder.relu(value), channels, kernel, stride)


def separable_conv(
    builder: GraphBuilder, value: int, channels: int, kernel: int, stride: int = 1, *, dilation: int = 1
) -> int:
    """Place a ReLU, a depthwise convolution and a 1×1 one with batch norm, as NASNet and DARTS do."""
    value = builder.depthwise_conv(builder.relu(value), kernel, stride, dilations=(dilation, dilation))
    return builder.conv(value, channels, 1)


def factorized_reduce(builder: GraphBuilder, value: int, channels: int) -> int:
    """Place a ReLU and two 1×1 convolutions of stride 2, each making half of the channels; as in DARTS.

    The second reads the input from the second pixel on in the dimensions of even size.
    """
    value = builder.relu(value)
    batch, height, width, inputs = builder.shape(value)
    halves = [builder.conv(value, channels - channels // 2, 1, 2)]
    if channels > 1:
        down, right = 1 - height % 2, 1 - width % 2
        shifted = (batch, height - down, width - right, inputs)
        if down or right:
            value = builder.place("slice", (value,), shifted, begin=(0, down, right, 0))
        halves.append(builder.conv(value, channels // 2, 1, 2))
    return builder.concat(halves)


def classify(builder: GraphBuilder, value: int, classes: int) -> int:
    """Place the mean over all pixels and a fully connected layer."""
    return builder.fully_connected(builder.global_mean(value), classes)
