"""Training on scikit-learn's digits: it learns, it goes on where it stopped, and its parts do what their papers say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from leti.core.errors import ArtifactError, InvalidInput, TaskFailed
from leti.core.graph import TensorType
from leti.generator.builder import GraphBuilder
from leti.generator.importers import Imported
from leti.generator.weights import random_weights

torch = pytest.importorskip("torch", reason="the extra `compression` is not installed")

from leti.compression.training.comparing import accuracy, compare, paired
from leti.compression.training.data import Data, digits, load_data
from leti.compression.training.distilling import Teacher, logits_loss, logits_value
from leti.compression.training.executing import executable
from leti.compression.training.fine_tuning import Recipe, fine_tune


def classifier(channels: int, seed: int = 0, *, softmax: bool = False) -> Imported:
    builder = GraphBuilder(TensorType((1, 32, 32, 1)))
    value = builder.relu(builder.conv(0, channels, 3, 2))
    value = builder.relu(builder.conv(value, 2 * channels, 3, 2))
    value = builder.relu(builder.conv(value, 4 * channels, 3, 2))
    value = builder.fully_connected(builder.place("reshape", (value,), (1, 4 * 4 * 4 * channels)), 10)
    value = builder.unary("softmax", value, axis=1) if softmax else value
    graph = builder.graph(value)
    return Imported(graph, ("",) * len(graph.ops), random_weights(graph, seed))


def few(data: Data, batches: int) -> Data:
    """Return data with fewer batches an epoch."""

    def train(epoch: int):
        return [batch for batch, _ in zip(data.train(epoch), range(batches), strict=False)]

    return replace(data, batches=batches, train=train)


def same(a: Imported, b: Imported) -> bool:
    return all(
        np.array_equal(x, y) for xs, ys in zip(a.weights, b.weights, strict=True) for x, y in zip(xs, ys, strict=True)
    )


@pytest.fixture(scope="module")
def taught() -> tuple[Imported, Data]:
    data = digits(jitters=2)
    return fine_tune(classifier(8), data, recipe=Recipe(epochs=5, learning_rate=1e-2)), data


def test_digits_are_many_seeded_and_not_trained_with_what_they_are_judged_by():
    data = digits(seed=3)
    batches = list(data.evaluate())
    assert sum(len(images) for images, _ in batches) >= 5_000
    for (images, classes), (again, _) in zip(batches, data.evaluate(), strict=True):
        assert images.shape[1:] == (32, 32, 1)
        assert images.dtype == np.float32
        assert set(classes) == set(range(10))
        assert np.array_equal(images, again)
    first, other, later = next(iter(data.train(0))), next(iter(data.train(0))), next(iter(data.train(1)))
    assert np.array_equal(first[0], other[0])
    assert not np.array_equal(first[0], later[0])
    assert len(list(data.train(0))) == data.batches
    assert sum(len(images) for images in data.calibrate()) == 256
    assert not np.array_equal(next(iter(digits(seed=4).train(0)))[0], first[0])


def test_a_network_learns_digits_and_a_smaller_one_learns_from_it(taught):
    teacher, data = taught
    before = accuracy(classifier(8), data)
    after = accuracy(teacher, data)
    assert before < 0.3 < 0.65 < after
    student = classifier(4, seed=1)
    hints = ((6, 6),)  # after the last activation: 16 channels there, 32 here
    made = fine_tune(
        student, few(data, 19), teacher=Teacher(teacher, hints=hints), recipe=Recipe(4, learning_rate=1e-2)
    )
    assert accuracy(made, data) > 0.5
    found = compare(teacher, made, data)
    assert found.samples == 2 * 597
    assert found.low <= found.difference <= found.high
    assert found.difference == pytest.approx(found.accuracy_b - found.accuracy_a)


def test_a_run_that_was_stopped_goes_on_and_ends_as_if_it_had_not(tmp_path):
    data, recipe = few(digits(), 3), Recipe(epochs=4)
    teacher = Teacher(classifier(8, seed=5), hints=((6, 6),))
    whole = fine_tune(classifier(4), data, teacher=teacher, recipe=recipe)
    path = tmp_path / "state.npz"

    def stop(epoch):
        if epoch.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fine_tune(classifier(4), data, teacher=teacher, recipe=recipe, checkpoint=path, progress=stop)
    told = []
    again = fine_tune(classifier(4), data, teacher=teacher, recipe=recipe, checkpoint=path, progress=told.append)
    assert [epoch.done for epoch in told] == [3, 4]
    assert same(again, whole)
    assert not same(whole, classifier(4))
    with pytest.raises(ArtifactError, match="another network"):
        fine_tune(classifier(4, seed=9), data, teacher=teacher, recipe=recipe, checkpoint=path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ArtifactError, match="no checkpoint"):
        fine_tune(classifier(4), data, teacher=teacher, recipe=recipe, checkpoint=path)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_activations_that_are_computed_again_change_nothing(optimizer):
    data = few(digits(), 3)
    made = [
        fine_tune(classifier(4), data, recipe=Recipe(epochs=1, optimizer=optimizer, checkpointed=count))
        for count in (1, 3)
    ]
    for plain, again in zip(made[0].weights, made[1].weights, strict=True):
        for array, other in zip(plain, again, strict=True):
            np.testing.assert_allclose(array, other, rtol=1e-5, atol=1e-6)
    graph = classifier(4)
    kept = []
    for count in (1, 4):
        saved = 0

        def count_saved(tensor):
            nonlocal saved
            saved += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count_saved, lambda tensor: tensor):
            executable(graph, segments=count)(torch.zeros(8, 32, 32, 1))
        kept.append(saved)
    assert kept[1] < kept[0]


def test_a_penalty_by_groups_draws_filters_to_zero():
    def lasso(network):
        return 0.05 * sum(network.weights(number)[0].square().sum(dim=(1, 2, 3)).sqrt().sum() for number in (0, 2, 4))

    data = few(digits(), 10)
    recipe = Recipe(epochs=3, learning_rate=1e-2, weight_decay=0)
    plain, drawn = (
        fine_tune(classifier(4), data, recipe=recipe),
        fine_tune(classifier(4), data, recipe=recipe, penalty=lasso),
    )
    norms = [[np.linalg.norm(made.weights[n][0].reshape(len(made.weights[n][0]), -1), axis=1).sum() for n in (0, 2, 4)]
             for made in (plain, drawn)]  # fmt: skip
    assert all(after < before for before, after in zip(*norms, strict=True))


def test_logits_are_found_below_a_softmax_and_what_is_no_number_stops_training():
    graph = classifier(4, softmax=True).graph
    assert logits_value(graph) == logits_value(classifier(4).graph) == len(graph.inputs) + len(graph.ops) - 2
    with pytest.raises(TaskFailed, match="no number"):
        fine_tune(classifier(4), few(digits(), 3), recipe=Recipe(epochs=1, optimizer="sgd", learning_rate=1e30))
    with pytest.raises(InvalidInput, match="learning_rate"):
        Recipe(learning_rate=0)
    with pytest.raises(InvalidInput, match="one size"):
        fine_tune(classifier(4), digits(), teacher=Teacher(classifier(4), hints=((2, 4),)))
    with pytest.raises(InvalidInput, match="on Python's path"):
        load_data("no.such:thing")
    with pytest.raises(InvalidInput, match="returns a dict"):
        load_data("builtins:dict")
    assert isinstance(load_data("leti.compression.training.data:digits"), Data)


def test_soft_targets_have_gradients_of_one_size_at_any_temperature():
    """For high temperatures the gradient is the difference of centred logits over the classes (Hinton et al., 2015)."""
    rng = np.random.default_rng(0)
    student, teacher = (torch.from_numpy(rng.standard_normal((5, 10))) for _ in range(2))
    assert float(logits_loss(teacher, teacher, 4.0)) == pytest.approx(0, abs=1e-12)
    student.requires_grad_(True)
    logits_loss(student, teacher, 1e4).backward()
    apart = (student - student.mean(1, keepdim=True)) - (teacher - teacher.mean(1, keepdim=True))
    np.testing.assert_allclose(student.grad.numpy(), apart.detach().numpy() / 10 / 5, rtol=1e-3, atol=1e-6)


def test_paired_tests_have_the_figures_that_are_published():
    """An example of Newcombe's (1998): 36 both, 12 and 2 of one alone, 0 neither."""
    a = np.array([1] * 36 + [0] * 12 + [1] * 2, bool)
    b = np.array([1] * 36 + [1] * 12 + [0] * 2, bool)
    found = paired(a, b)
    assert (found.only_a, found.only_b, found.difference) == (2, 12, pytest.approx(0.2))
    assert (found.low, found.high) == (pytest.approx(0.0569, abs=5e-5), pytest.approx(0.3404, abs=5e-5))
    assert found.p_value == pytest.approx(2 * sum([1, 14, 91]) / 2**14)
    alike = paired(a, a)
    assert (alike.difference, alike.p_value) == (0, 1)
    assert alike.low < 0 < alike.high
    swapped = paired(b, a)
    assert (swapped.low, swapped.high) == (pytest.approx(-found.high), pytest.approx(-found.low))
