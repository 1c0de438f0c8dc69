"""Examples of networks and platforms, and of the service itself."""

from __future__ import annotations

from typing import Any, Final

from leti.core.codec import to_json
from leti.core.device import Platform
from leti.core.spec import NetworkConfig
from leti.core.wire import (
    PROTOCOL_VERSION,
    Accuracy,
    AccuracyRequest,
    Health,
    Network,
    NetworkRequest,
    NetworksRequest,
    PlatformInfo,
)
from leti.service.routes.examples.values import (
    AGREEMENT,
    ARCHITECTURE,
    AT,
    FINGERPRINT,
    PLATFORM,
    PLATFORM_ID,
    REFERENCE,
)

SPEC: Final[dict[str, Any]] = {
    "space": "nasbench101",
    "adjacency": [[0, 1, 1], [0, 0, 1], [0, 0, 0]],
    "layers": ["input", "conv3x3-bn-relu", "output"],
    "config": to_json(NetworkConfig(modules_per_stack=1)),
}

CELL: Final[dict[str, Any]] = {
    "space": "nasbench201",
    "adjacency": [
        [0, 1, 1, 0, 1, 0, 0, 0],
        [0, 0, 0, 1, 0, 1, 0, 0],
        [0, 0, 0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0, 0, 0, 0],
    ],
    "layers": [
        "input",
        "nor_conv_3x3",
        "skip_connect",
        "nor_conv_1x1",
        "avg_pool_3x3",
        "nor_conv_3x3",
        "skip_connect",
        "output",
    ],
    "config": to_json(NetworkConfig()),
}
"""The spec of :data:`ARCHITECTURE`."""

EXAMPLES: Final[dict[type, Any]] = {
    Health: Health("ok", "0.1.0", PROTOCOL_VERSION),
    NetworksRequest: NetworksRequest((ARCHITECTURE, SPEC)),
    NetworkRequest: NetworkRequest(ARCHITECTURE),
    Network: Network(
        FINGERPRINT,
        "nasbench201",
        CELL,
        "execute",
        "((0)@nor_conv_3x3)@nor_conv_1x1+0+((0)@nor_conv_3x3)@nor_conv_3x3+(0)@avg_pool_3x3",
        False,
        82_494_080,
        585_594,
        262_144,
    ),
    AccuracyRequest: AccuracyRequest(0.8987, "12 epochs, mean of 3 seeds"),
    Accuracy: Accuracy(FINGERPRINT, "cifar10-valid", 0.8987, "12 epochs, mean of 3 seeds", AT),
    Platform: PLATFORM,
    PlatformInfo: PlatformInfo(PLATFORM_ID, PLATFORM, REFERENCE, 1, 1.39, 150, 240, AGREEMENT, AT),
}
