"""The store: the only place with rows. Everything that goes in or comes out is a value of core or of this package."""

from leti.service.store.campaigns import NewCampaign
from leti.service.store.dataset_items import DatasetItem
from leti.service.store.datasets import Dataset, Imported, Measured
from leti.service.store.holds import Claimed, Hold
from leti.service.store.networks import KnownNetwork
from leti.service.store.predictors import Ending, NewPredictor, Serving
from leti.service.store.store import Store
from leti.service.store.task_logs import NewLine

__all__ = [
    "Claimed",
    "Dataset",
    "DatasetItem",
    "Ending",
    "Hold",
    "Imported",
    "KnownNetwork",
    "Measured",
    "NewCampaign",
    "NewLine",
    "NewPredictor",
    "Serving",
    "Store",
]
