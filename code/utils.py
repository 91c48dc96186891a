"""Pictures of filters and samples, under the name that the old tutorials had for them."""

from support.tiles import save_filters, scale_to_unit_interval, tile_raster_images

__all__ = ['save_filters', 'scale_to_unit_interval', 'tile_raster_images']
