"""The reference network, which every platform measures beside its candidates."""

from __future__ import annotations

from leti.core.spec import NetworkConfig, NetworkSpec
from leti.generator.spaces.nasbench201 import spec_of

_ARCHITECTURE = "|nor_conv_3x3~0|+|skip_connect~0|avg_pool_3x3~1|+|nor_conv_1x1~0|nor_conv_3x3~1|nor_conv_1x1~2|"


def reference_spec() -> NetworkSpec:
    """Return the float32 reference: 3×3 and 1×1 convolutions, pools and skips; 1–2 ms on one core of a desktop CPU.

    A latency is a ratio to this network's, so it never changes: another one would be another version of every
    platform's reference.
    """
    return spec_of(_ARCHITECTURE, NetworkConfig(stem_channels=16, stacks=3, modules_per_stack=3))
