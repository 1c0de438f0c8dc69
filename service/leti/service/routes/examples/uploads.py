"""Examples of uploads."""

from __future__ import annotations

from typing import Any, Final

from leti.core.uploads import ReadUpload, Upload
from leti.service.routes.examples.values import AT, FINGERPRINT, SHA256

EXAMPLES: Final[dict[type, Any]] = {
    Upload: Upload(3, SHA256, "tflite", 1_204_224, "known", FINGERPRINT, None, AT, 21),
    ReadUpload: ReadUpload(3),
}
