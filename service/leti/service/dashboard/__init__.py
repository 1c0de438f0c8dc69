"""The dashboard: pages for people who want to see how far a predictor can be trusted."""

from leti.service.dashboard.error_pages import ErrorPages
from leti.service.dashboard.site import add_pages, install

__all__ = ["ErrorPages", "add_pages", "install"]
