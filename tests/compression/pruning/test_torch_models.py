"""A PyTorch model pruned as a module is its exported twin with the same channels removed."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `compression` is not installed")
pytest.importorskip("torch_pruning", reason="the extra `compression` is not installed")

from leti.compression.pruning.removing import removed
from leti.compression.pruning.torch_models import prune_module
from leti.core.errors import InvalidInput
from leti.generator.compressing.groups import channel_groups
from leti.generator.importers import import_model

INPUTS = (torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0)),)


class Residual(torch.nn.Module):
    """A stem, a residual block, a depthwise branch beside it, one that mixes both, and a flattened head."""

    def __init__(self, mixed: bool):
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.body = torch.nn.Sequential(torch.nn.Conv2d(8, 8, 3, padding=1), torch.nn.BatchNorm2d(8), torch.nn.ReLU())
        self.thin = torch.nn.Conv2d(8, 6, 1)
        self.depthwise = torch.nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.mix = torch.nn.Conv2d(14, 10, 3) if mixed else torch.nn.Identity()
        self.hidden = torch.nn.Linear(90 if mixed else 350, 12)
        self.head = torch.nn.Linear(12, 4)

    def forward(self, images):
        images = torch.relu(self.stem(images))
        images = images + self.body(images)
        images = self.mix(torch.cat([self.depthwise(torch.relu(self.thin(images))), images], dim=1))
        return self.head(torch.relu(self.hidden(images.flatten(1))))


def twins(mixed: bool):
    torch.manual_seed(3)
    model = Residual(mixed)
    with torch.no_grad():
        model(torch.randn(64, 3, 5, 5))  # statistics of the norm
    model.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's, about itself
        return model, import_model(torch.export.export(model, INPUTS), weights=True)


def test_module_and_twin_lose_the_same_channels():
    model, imported = twins(mixed=True)
    rng = np.random.default_rng(0)
    free = [group for group in channel_groups(imported.graph) if not group.fixed]
    assert sorted(group.channels for group in free) == [6, 8, 10, 12]
    for _ in range(5):
        kept = {g.number: np.sort(rng.choice(g.channels, rng.integers(1, g.channels + 1), replace=False)) for g in free}
        smaller = prune_module(model, INPUTS, imported, kept)  # which compares what they compute
        folded = 2 * smaller.body[0].out_channels  # the norm's scale and offset are in the twin's convolution
        assert removed(imported, kept).graph.params == sum(p.numel() for p in smaller.parameters()) - folded
    assert model.stem.out_channels == 8  # the model itself is as it was


def test_what_torch_pruning_gets_wrong_is_refused():
    """Channels that are concatenated and flattened at once: version 1.6 takes them for channels that are added."""
    model, imported = twins(mixed=False)
    stem = next(group for group in channel_groups(imported.graph) if group.channels == 8)
    with pytest.raises(InvalidInput, match="does not make of the model") as raised:
        prune_module(model, INPUTS, imported, {stem.number: [0, 3, 4, 5, 6, 7]})
    assert raised.value.field == "model"
    with pytest.raises(InvalidInput, match="no module"):
        prune_module(torch.nn.Sequential(torch.nn.Conv2d(3, 8, 1)), INPUTS, imported, {stem.number: [0]})
