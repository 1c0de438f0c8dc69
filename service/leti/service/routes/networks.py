"""Networks: made known in bulk, read by fingerprint, had as model files, and what they reached once trained."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Body, Path, Query, Response

from leti.core.device import ModelFormat
from leti.core.errors import InvalidInput
from leti.core.wire import MODEL_SHA256_HEADER, Accuracy, AccuracyRequest, Network, NetworkRequest, NetworksRequest
from leti.service.catalogue import read_networks
from leti.service.routes.documentation import body_examples, posted, responses
from leti.service.routes.parts import Fingerprint, FromWire, GivenParts

router = APIRouter(prefix="/networks", tags=["networks"])

TASK: Final = "[a-z0-9][a-z0-9._-]{0,99}"
"""What the name of a task may be: what a network is trained for, and on what it was judged."""

TaskName = Annotated[
    str, Path(pattern=f"^{TASK}$", examples=["cifar10-valid"], description="what a network was trained for")
]


_MODEL = {
    "description": "The model file; its SHA-256 stands in a header.",
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}, "example": "TFL3…"}},
    "headers": {MODEL_SHA256_HEADER: {"schema": {"type": "string"}, "description": "SHA-256 of the body, hexadecimal"}},
}


@router.post("", responses=posted(answer=Network, many=True))
def add_networks(
    request: Annotated[NetworksRequest, FromWire(), Body(openapi_examples=body_examples(NetworksRequest))],
    parts: GivenParts,
) -> list[Network]:
    """Check networks, lower them and keep them by fingerprint; answer in the order of the request.

    In another precision a network is another computation, with a graph, costs and a fingerprint of its own. One whose
    computation is known already is not stored again: it is answered as the request describes it.
    """
    known = read_networks(request.networks, request.zero, request.precision, limit=parts.settings.max_batch)
    parts.store.networks.add(known)
    return [item.network for item in known]


@router.put("/{fingerprint}", responses=posted(404, answer=Network))
def put_network(
    fingerprint: Fingerprint,
    request: Annotated[NetworkRequest, FromWire(), Body(openapi_examples=body_examples(NetworkRequest))],
    parts: GivenParts,
) -> Network:
    """Check a network, lower it and keep it; refuse one whose computation has another fingerprint."""
    (known,) = read_networks((request.network,), request.zero, request.precision, limit=1)
    found = known.network.fingerprint
    if found != fingerprint:
        raise InvalidInput(
            f"the network has the fingerprint {found}", field="fingerprint", remedy=f"PUT /v1/networks/{found}"
        )
    parts.store.networks.add([known])
    return known.network


@router.get("/{fingerprint}", responses=responses(404, answer=Network))
def read_network(fingerprint: Fingerprint, parts: GivenParts) -> Network:
    """Return a known network."""
    return parts.store.networks.get(fingerprint)


@router.get("/{fingerprint}/model", response_class=Response, responses={**responses(404, 413, 501), 200: _MODEL})
def read_model(
    fingerprint: Fingerprint,
    parts: GivenParts,
    model_format: Annotated[ModelFormat, Query(alias="format", description="the kind of file")] = "tflite",
) -> Response:
    """Return a known network's model file; the same network gives the same file.

    Its precision is the network's own: TFLite files hold every one, ONNX files and PyTorch programs float32.
    """
    content, sha256 = parts.models.get(fingerprint, model_format)
    return Response(content, media_type="application/octet-stream", headers={MODEL_SHA256_HEADER: sha256})


@router.put("/{fingerprint}/accuracies/{task}", responses=posted(404, answer=Accuracy))
def put_accuracy(
    fingerprint: Fingerprint,
    task: TaskName,
    request: Annotated[AccuracyRequest, FromWire(), Body(openapi_examples=body_examples(AccuracyRequest))],
    parts: GivenParts,
) -> Accuracy:
    """Keep what a known network reached on a task, over what was said before; LETI itself trains no network."""
    return parts.store.accuracies.put(fingerprint, task, request)


@router.get("/{fingerprint}/accuracies", responses=responses(404, answer=Accuracy, many=True))
def list_accuracies(fingerprint: Fingerprint, parts: GivenParts) -> list[Accuracy]:
    """Return what a known network reached on each task, by the task's name."""
    return list(parts.store.accuracies.list(fingerprint))
