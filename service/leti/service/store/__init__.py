"""The store: the only place with rows. Everything that goes in or comes out is a value of core or of this package."""

from leti.service.store.campaigns import NewCampaign
from leti.service.store.networks import KnownNetwork
from leti.service.store.predictors import Dataset, DatasetItem, NewPredictor
from leti.service.store.store import Store

__all__ = ["Dataset", "DatasetItem", "KnownNetwork", "NewCampaign", "NewPredictor", "Store"]
