"""Uploads: model files that people send, read where they can do no harm, known by the networks that they hold."""

from leti.service.uploads.intake import Uploads

__all__ = ["Uploads"]
