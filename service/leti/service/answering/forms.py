"""The forms of an answer: which one a request takes, and rows and columns in JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from leti.core.codec import Json, to_json
from leti.core.errors import NotAcceptable
from leti.core.queries import Form
from leti.service.answering.answers import Answers, PlatformAnswers
from leti.service.problems import problem

JSON: Final = "application/json"
ARROW: Final = "application/vnd.apache.arrow.stream"
PARQUET: Final = "application/vnd.apache.parquet"
NPZ: Final = "application/x-npz"
"""NumPy's arrays by name, as :mod:`leti.predictors.array_files` writes and reads them."""

MEDIA_TYPES: Final = (JSON, ARROW, PARQUET)
"""What an answer can be sent as, the first where anything will do."""

_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def choose(accept: str, offered: Sequence[str] = MEDIA_TYPES) -> str:
    """Return the media type that an ``Accept`` header likes best; raise :class:`NotAcceptable` where it takes none."""
    if accept == "*/*":  # what most clients say
        return offered[0]
    ranges = (accept.strip() or "*/*").split(",")
    likes = {name: max(_like(part, name) for part in ranges) for name in offered}
    best = max(offered, key=lambda name: likes[name][1])
    if likes[best][1] <= 0:
        raise NotAcceptable(
            f"takes none of the forms of this answer: {accept[:200]!r}", field="accept", remedy=", ".join(offered)
        )
    return best


def write(answers: Answers, media_type: str, form: Form) -> bytes:
    """Return answers in a form; raise :class:`~leti.core.errors.MissingExtra` where pyarrow is not installed."""
    if media_type == JSON:
        body = _columns(answers) if form == "columns" else _rows(answers)
        return _ENCODER.encode(body).encode()
    from leti.service.answering import tabular

    return tabular.parquet(answers) if media_type == PARQUET else tabular.arrow(answers)


def _like(part: str, media_type: str) -> tuple[int, float]:
    """Return how specific a part of an ``Accept`` header is about a media type, and its weight."""
    ranged, *parameters = [piece.strip().lower() for piece in part.split(";")]
    specific = {media_type: 3, f"{media_type.partition('/')[0]}/*": 2, "*/*": 1}.get(ranged, 0)
    if not specific:
        return 0, 0.0
    weights = [value.strip() for name, _, value in (p.partition("=") for p in parameters) if name.strip() == "q"]
    try:
        return specific, min(float(weights[-1]), 1.0) if weights else 1.0
    except ValueError:
        return 0, 0.0


def _rows(answers: Answers) -> Json:
    degenerate = set(answers.degenerate())
    return {
        "platforms": [
            {
                "platform_id": platform.platform_id,
                "items": _items(answers, platform, degenerate),
                "queued": platform.queued,
                "waiting": platform.waiting,
            }
            for platform in answers.platforms
        ],
        "failures": _failures(answers),
    }


def _items(answers: Answers, platform: PlatformAnswers, degenerate: set[int]) -> list[Json]:
    unknown = dict(answers.unknown(platform))
    names = answers.fingerprints(platform)
    said = {
        True: {"coverage": 1.0, "source": "measured", "predictor": "", "version": 0},
        False: {
            "coverage": answers.coverage,
            "source": "predicted",
            "predictor": platform.predictor,
            "version": platform.version,
        },
    }
    return [
        None
        if answer.latency_ms is None
        else {
            "fingerprint": name,
            "latency_ms": answer.latency_ms,
            "low_ms": answer.low_ms,
            "high_ms": answer.high_ms,
            **said[answer.measured],
            "unknown": unknown.get(i, ()),
            "degenerate": i in degenerate,
            "count": answer.measurements,
            "distance": answer.distance,
        }
        for i, (name, answer) in enumerate(zip(names, answers.column(platform), strict=True))
    ]


def _columns(answers: Answers) -> Json:
    return {
        "coverage": answers.coverage,
        "fingerprints": {precision: networks.fingerprints for precision, networks in answers.networks.items()},
        "degenerate": answers.degenerate(),
        "platforms": [_platform_columns(answers, platform) for platform in answers.platforms],
        "failures": _failures(answers),
    }


def _platform_columns(answers: Answers, platform: PlatformAnswers) -> Json:
    latency, low, high, measured, count, distance = zip(*answers.column(platform), strict=True)
    return {
        "platform_id": platform.platform_id,
        "precision": platform.precision,
        "predictor": platform.predictor,
        "version": platform.version,
        "latency_ms": latency,
        "low_ms": low,
        "high_ms": high,
        "measured": measured,
        "count": count,
        "distance": distance,
        "unknown": {str(i): said for i, said in answers.unknown(platform)},
        "queued": platform.queued,
        "waiting": platform.waiting,
    }


def _failures(answers: Answers) -> list[Json]:
    return [
        {
            "index": failed.index,
            "stage": failed.stage,
            "problem": to_json(problem(failed.error)),
            "platform_id": failed.platform_id,
        }
        for failed in answers.failures()
    ]
