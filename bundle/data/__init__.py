"""Cases on disk to samples: data lists, splits over sites, samplers, phantoms."""

from bundle.data.datalist import DataList, load_datalist, write_site_lists
from bundle.data.errors import DataError
from bundle.data.modalities import check_has, complete, fills, fitting, names_by_site, segmenter_modalities
from bundle.data.samples import AxialSlices, DrawSampler, HeldOutDataset, MixedSampler, SampleDataset, WholeImage
from bundle.data.settings import (
    batch_sizes,
    check_setting,
    held_out_items,
    image_folders,
    items_by_site,
    keep_conditions_by_site,
    members_by_site,
    samples_by_site,
    training_items,
)

__all__ = [
    "AxialSlices",
    "DataError",
    "DataList",
    "DrawSampler",
    "HeldOutDataset",
    "MixedSampler",
    "SampleDataset",
    "WholeImage",
    "batch_sizes",
    "check_has",
    "check_setting",
    "complete",
    "fills",
    "fitting",
    "held_out_items",
    "image_folders",
    "items_by_site",
    "keep_conditions_by_site",
    "load_datalist",
    "members_by_site",
    "names_by_site",
    "samples_by_site",
    "segmenter_modalities",
    "training_items",
    "write_site_lists",
]
