"""Small search spaces are predicted before anybody asks for their networks."""

from __future__ import annotations

import itertools
import threading
import time

import pytest

pytest.importorskip("xgboost", reason="needs the extra `boosting`")

from leti.core.codec import from_json
from leti.core.queries import Encodings, PredictionRequest, PredictionResponse
from leti.core.spec import NetworkConfig
from leti.generator.spaces import get_space
from leti.service.answering import ahead
from leti.service.answering.remembered import RememberedPredictions

SMALL = NetworkConfig(modules_per_stack=1)


@pytest.fixture
def asked(monkeypatch):
    """What predictors were asked for, a list of networks a call, whoever asked."""
    from leti.predictors.calibrated import CalibratedPredictor

    calls, predict = [], CalibratedPredictor.predict

    def counted(self, graphs, **how):
        calls.append(list(graphs))
        return predict(self, graphs, **how)

    monkeypatch.setattr(CalibratedPredictor, "predict", counted)
    monkeypatch.setattr(ahead, "SHARE", 1.0)
    return calls


def predict(house, *vectors, **more):
    request = PredictionRequest((house.platform_id,), (), encodings=Encodings("nasbench201", vectors, SMALL), **more)
    answer = house.post("/predictions", request)
    assert answer.status_code == 200, answer.text
    return from_json(PredictionResponse, answer.json()).only()


def wait_for(what):
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_first_network_of_a_space_has_the_others_predicted(learnt, asked):
    early = list(itertools.islice(itertools.product(range(5), repeat=6), 40))
    with_it, without = learnt(), learnt()
    told_ahead = with_it.app.state.parts.answerer.ahead
    told_ahead.begin()
    predict(with_it, (4, 3, 2, 1, 3, 2))
    wait_for(lambda: sum(map(len, asked)) > 60)
    told_ahead.close()
    calls = len(asked)
    items = predict(with_it, *early)
    assert len(asked) == calls  # all of them were known
    assert items == predict(without, *early)
    assert len(asked) > calls
    assert not [thread for thread in threading.enumerate() if thread.name == "leti-ahead"]
    with_it.close()
    without.close()


@pytest.mark.parametrize(("first", "why"), [(1, "not begun"), (2, "too large"), (3, "closed")])
def test_nothing_is_done_unasked(learned, asked, monkeypatch, first, why):
    parts = learned.app.state.parts
    most = get_space("nasbench201").size() if why == "too large" else 20_000  # there are more vectors than networks
    made = ahead.Ahead(parts.answerer._loaded, RememberedPredictions(), most)
    if why != "not begun":
        made.begin()
    if why == "closed":
        made.close()
    monkeypatch.setattr(parts.answerer, "ahead", made)
    predict(learned, (first, 2, 3, 4, 1, 3))  # a predictor that is loaded is tried
    before = len(asked)
    predict(learned, (first, 2, 3, 4, 1, 2))
    assert len(asked) == before + 1
    assert made._thread is None
    made.close()


def test_who_is_not_loaded_is_not_asked(learned, asked, monkeypatch):
    parts = learned.app.state.parts
    made = ahead.Ahead(parts.answerer._loaded, RememberedPredictions(), 20_000)
    made.begin()
    monkeypatch.setattr(parts.answerer, "ahead", made)
    predict(learned, (4, 2, 3, 4, 1, 3))
    wait_for(lambda: len(asked) > 3)
    monkeypatch.setattr(type(parts.answerer._loaded), "__contains__", lambda *_: False)
    wait_for(lambda: made._thread is None)
    made.close()


def test_what_trips_over_one_space_goes_on_with_the_next(learned, asked, monkeypatch, caplog):
    parts = learned.app.state.parts
    made = ahead.Ahead(parts.answerer._loaded, RememberedPredictions(), 20_000)
    made.begin()
    monkeypatch.setattr(parts.answerer, "ahead", made)
    with monkeypatch.context() as broken:
        broken.setattr(ahead, "read_again", lambda *_: 1 / 0)
        predict(learned, (4, 2, 3, 4, 1, 1))
        wait_for(lambda: made._thread is None)
    assert "cannot predict ahead" in caplog.text
    predict(learned, (4, 2, 3, 4, 1, 1), coverage=0.8)
    wait_for(lambda: len(asked) > 3)
    made.close()
