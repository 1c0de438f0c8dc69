"""Networks, platforms, model files and uploads."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from pathlib import Path

from leti.client.call import Call, Flow, Look, get, post, segment
from leti.client.exchange import Answer, reader
from leti.core.device import ModelFormat, Platform
from leti.core.errors import ArtifactError, Unavailable
from leti.core.tasks import MAX_WAIT_S
from leti.core.uploads import Upload, UploadFormat
from leti.core.wire import (
    MODEL_SHA256_HEADER,
    Accuracy,
    AccuracyRequest,
    Health,
    Network,
    NetworksRequest,
    PlatformInfo,
)

BATCH = 10_000
"""Networks in one request; larger requests are split."""


def health() -> Call[Health]:
    return get(Health, "/v1/health")


def add_networks(request: NetworksRequest) -> Flow[tuple[Network, ...]]:
    answers: list[Network] = []
    for start in _batches(len(request.networks)):
        part = dataclasses.replace(request, networks=request.networks[start : start + BATCH])
        answers += yield post(tuple[Network, ...], "/v1/networks", part, networks=len(part.networks))
    return tuple(answers)


def network(fingerprint: str) -> Call[Network]:
    return get(Network, f"/v1/networks/{segment(fingerprint)}")


def model(fingerprint: str, format: ModelFormat) -> Call[bytes]:
    def read(answer: Answer) -> bytes:
        stated = answer.headers.get(MODEL_SHA256_HEADER, "")
        found = hashlib.sha256(answer.content).hexdigest()
        if stated.lower() != found:
            raise ArtifactError(
                f"the model file of {fingerprint} has SHA-256 {found}, but the service states {stated or 'none'}",
                field=MODEL_SHA256_HEADER,
                remedy="try again; if it stays so, check what stands between service and client",
            )
        return answer.content

    return Call("GET", f"/v1/networks/{segment(fingerprint)}/model", read, {"format": format})


def set_accuracy(fingerprint: str, task: str, request: AccuracyRequest) -> Call[Accuracy]:
    return Call(
        "PUT", f"/v1/networks/{segment(fingerprint)}/accuracies/{segment(task)}", reader(Accuracy), body=request
    )


def accuracies(fingerprint: str) -> Call[tuple[Accuracy, ...]]:
    return get(tuple[Accuracy, ...], f"/v1/networks/{segment(fingerprint)}/accuracies")


def register_platform(platform: Platform) -> Call[PlatformInfo]:
    return post(PlatformInfo, "/v1/platforms", platform)


def platforms() -> Call[tuple[PlatformInfo, ...]]:
    return get(tuple[PlatformInfo, ...], "/v1/platforms")


def platform(platform_id: str) -> Call[PlatformInfo]:
    return get(PlatformInfo, f"/v1/platforms/{segment(platform_id)}")


def start_upload(file: Path | bytes, format: UploadFormat) -> Call[Upload]:
    return Call("POST", "/v1/uploads", reader(Upload), {"format": format}, file=file, repeats="safe", longer_s=600.0)


def upload(upload_id: int, wait_s: float = 0.0) -> Call[Upload]:
    return get(Upload, f"/v1/uploads/{upload_id:d}", {"wait_s": wait_s or None}, longer_s=wait_s)


def upload_model(file: Path | bytes, format: UploadFormat, timeout_s: float) -> Flow[Upload]:
    found: Upload = yield start_upload(file, format)
    deadline = (yield Look()) + timeout_s
    while not found.ended:
        left_s = deadline - (yield Look())
        if left_s <= 0:
            raise Unavailable(
                f"upload {found.id} has not been read within {timeout_s:g} s: it is {found.state}",
                remedy="wait on; where it stays received, start a worker: leti worker",
                upload_id=found.id,
            )
        found = yield upload(found.id, min(left_s, MAX_WAIT_S))
    if found.problem is not None:
        raise found.problem.error()
    return found


def _batches(count: int) -> Iterator[int]:
    """Yield the start of each batch; an empty request is still one request, so that the service can refuse it."""
    yield from range(0, max(count, 1), BATCH)
