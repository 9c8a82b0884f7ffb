"""From a map or an expert to a product that a catalogue accepts."""

from tesela.publishing.catalogue_record import catalogue_record
from tesela.publishing.expert import expert_item, model_card
from tesela.publishing.products import Product, check_cog, publish

__all__ = ["Product", "catalogue_record", "check_cog", "expert_item", "model_card", "publish"]
