"""Examples of datasets."""

from __future__ import annotations

from typing import Any, Final

from leti.core.datasets import DatasetInfo, DatasetOrigin, DatasetPage, DatasetRow, DatasetRowPage, ImportRequest
from leti.core.measurement import OperatorTime
from leti.generator.reference import reference_spec
from leti.service.routes.examples.values import AGREEMENT, AT, FINGERPRINT, PLATFORM_ID, SHA256

ORIGIN: Final = DatasetOrigin(4, AT, 2, "0.1.0", "parquet", SHA256)
DATASET: Final = DatasetInfo(1, PLATFORM_ID, 1, 1.39, 113, 37, 0.25, 0, AT, AGREEMENT, ORIGIN)
ROW: Final = DatasetRow(
    FINGERPRINT,
    "nasbench201",
    reference_spec().to_json(),
    "execute",
    "float32",
    None,
    "train",
    "nasbench201:|nor_conv_3x3~0|",
    0.62,
    2,
    0.011,
    0.8618,
    (OperatorTime("Convolution (NHWC, F32)", "xnnpack", (41.0, 40.0, 41.0)),),
)

EXAMPLES: Final[dict[type, Any]] = {
    DatasetInfo: DATASET,
    DatasetPage: DatasetPage((DATASET,), None),
    DatasetRow: ROW,
    DatasetRowPage: DatasetRowPage((ROW,), FINGERPRINT),
    ImportRequest: ImportRequest(SHA256, "parquet"),
}
