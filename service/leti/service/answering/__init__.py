"""Answering: requests for latencies, from networks as they were sent to answers in the form that was asked for."""

from leti.service.answering.answerer import Answerer
from leti.service.answering.answers import Answers, PlatformAnswers
from leti.service.answering.reading import Named

__all__ = ["Answerer", "Answers", "Named", "PlatformAnswers"]
