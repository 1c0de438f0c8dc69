"""Values that the examples of several subjects share."""

from __future__ import annotations

from typing import Final

from leti.core.device import Device, Platform
from leti.core.measurement import Repeatability

FINGERPRINT: Final = "ce07686a7f0be124908c67ed955d3bc014f9e744c6ed6ac40a7441f376bb2b99"
"""Of the network of :data:`ARCHITECTURE`."""

REFERENCE: Final = "eef69699acea8415b4f13533e3b53d3a4563cf8cdce52c75916268f8a1372b79"
"""Of the reference network."""

SHA256: Final = "9f3b61aa" * 8
AT: Final = "2026-01-31T12:00:00.000Z"
ARCHITECTURE: Final = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|avg_pool_3x3~0|nor_conv_3x3~1|skip_connect~2|"

PLATFORM: Final = Platform(
    Device("build-box", "desktop", "Xeon 8488C", 2, "Linux"), "litert", "2.3.0", "xnnpack", affinity=(0,)
)
PLATFORM_ID: Final = PLATFORM.id
AGREEMENT: Final = Repeatability(
    30, 120, {"0.01": 0.71, "0.05": 0.97, "0.1": 1.0}, {"0.01": 0.55, "0.05": 0.94, "0.1": 1.0}
)
