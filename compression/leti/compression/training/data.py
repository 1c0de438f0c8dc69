"""The data that a network is trained, judged and calibrated with: the user's own, or scikit-learn's digits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, final

from leti.compression.naming import named_function
from leti.core.errors import InvalidInput
from leti.core.extras import needs
from leti.generator.weights import Array

with needs("compression"):
    import numpy as np

Labelled = tuple[Array, Array]
"""Images (batch, height, width, channels) in float32, or whatever else the network reads, and classes (batch,)."""

DIGIT_SIZE: Final = 32

_JUDGED: Final = 597  # digits of 1,797 that are not trained with
_CALIBRATED: Final = 256
_PIXELS: Final = 8


@final
@dataclass(frozen=True, slots=True)
class Data:
    """What ``--data package.module:function`` returns: each part a function, so that it can be gone through again.

    ``train`` is given the number of the epoch and makes ``batches`` batches, the same each time for one number, so that
    training can be resumed. ``evaluate`` makes the same batches each time. ``calibrate`` makes inputs without classes:
    a few hundred samples that are like those the network will see.
    """

    batches: int
    train: Callable[[int], Iterable[Labelled]]
    evaluate: Callable[[], Iterable[Labelled]]
    calibrate: Callable[[], Iterable[Array]]


def load_data(name: str) -> Data:
    """Return what a function says that is named as ``package.module:function``.

    Raises :class:`~leti.core.errors.InvalidInput` where there is no such function, or it returns no :class:`Data`.
    """
    made = named_function(name, "data")()
    if not isinstance(made, Data):
        raise InvalidInput(
            f"{name!r} returns a {type(made).__name__}",
            field="data",
            remedy="return a leti.compression.training.data.Data",
        )
    return made


def digits(*, seed: int = 0, batch: int = 64, jitters: int = 9) -> Data:
    """Return scikit-learn's digits as images of 32×32 with one channel, each turned, scaled, moved and made noisy.

    1,200 digits are trained with, in new places each epoch; the other 597, each in ``jitters`` places that never
    change, judge: 5,373 images with nine. Images of one digit are not independent of each other.
    """
    from sklearn.datasets import load_digits

    images, classes = load_digits(return_X_y=True)
    order = np.random.default_rng(20_000 + seed).permutation(len(images))
    pixels = images[order].reshape(-1, _PIXELS, _PIXELS).astype(np.float32) / 16
    labels = classes[order].astype(np.int64)
    judged, judged_labels = pixels[:_JUDGED], labels[:_JUDGED]
    trained, trained_labels = pixels[_JUDGED:], labels[_JUDGED:]

    def train(epoch: int) -> Iterator[Labelled]:
        rng = np.random.default_rng((seed, 1, epoch))
        mixed = rng.permutation(len(trained))
        for start in range(0, len(mixed), batch):
            taken = mixed[start : start + batch]
            yield _jittered(trained[taken], rng), trained_labels[taken]

    def evaluate() -> Iterator[Labelled]:
        for place in range(jitters):
            yield _jittered(judged, np.random.default_rng((seed, 2, place))), judged_labels

    def calibrate() -> Iterator[Array]:
        rng = np.random.default_rng((seed, 3))
        for start in range(0, _CALIBRATED, batch):
            yield _jittered(trained[start : min(start + batch, _CALIBRATED)], rng)

    return Data(math.ceil(len(trained) / batch), train, evaluate, calibrate)


def _jittered(pixels: Array, rng: np.random.Generator) -> Array:
    """Return images (count, 32, 32, 1) of digits (count, 8, 8): bilinear, under affine maps of their own, with noise.

    Turned by up to 25°, scaled by 0.8 to 1.2, moved by up to an eighth; about 0 ± 0.5.
    """
    from scipy.ndimage import map_coordinates

    count = len(pixels)
    angle = rng.uniform(-1, 1, count) * math.radians(25)
    scale = rng.uniform(0.8, 1.2, count)
    moved = rng.uniform(-1, 1, (2, count, 1, 1))  # pixels of the digit
    middle = (DIGIT_SIZE - 1) / 2
    across = (np.arange(DIGIT_SIZE) - middle) * _PIXELS / DIGIT_SIZE
    rows, columns = across[None, :, None], across[None, None, :]
    cosine, sine = ((f(angle) / scale)[:, None, None] for f in (np.cos, np.sin))
    centre = (_PIXELS - 1) / 2
    places: list[Any] = [
        np.broadcast_to(np.arange(count)[:, None, None], (count, DIGIT_SIZE, DIGIT_SIZE)),
        cosine * rows - sine * columns + centre + moved[0],
        sine * rows + cosine * columns + centre + moved[1],
    ]
    made = map_coordinates(pixels, np.stack(places), order=1, mode="constant")
    noisy: Array = (made + rng.normal(0, 0.15, made.shape) - 0.5).astype(np.float32)
    return noisy[..., None]
