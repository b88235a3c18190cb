"""MONAI dictionary transforms that the tasks need beyond MONAI's own."""

# The functions brain_outline and source_name stay in their modules: exported, they would hide the modules' names.

from bundle.transforms.brain_outline import BrainOutlined
from bundle.transforms.check_one_grid import CheckOneGridd
from bundle.transforms.check_range import CheckRanged
from bundle.transforms.check_same_shape import CheckSameShaped
from bundle.transforms.condition import ConditionFromLabeld, label_from_condition, pixel_classes
from bundle.transforms.count_foreground import CountForegroundd
from bundle.transforms.fill_modalities import FillModalitiesd
from bundle.transforms.group_labels import GroupLabelsd
from bundle.transforms.name_by_case import NameByCased
from bundle.transforms.named_compose import NamedCompose
from bundle.transforms.normalize_stains import NormalizeStainsd
from bundle.transforms.scale_intensity import ScaleIntensityForegroundd
from bundle.transforms.select_modalities import SelectModalitiesd
from bundle.transforms.stain_strength import RandStainStrengthd, scale_stains
from bundle.transforms.ternary_label import TernaryLabeld
from bundle.transforms.varied import tracking_metadata, varied
from bundle.transforms.warp import RandWarpd
from bundle.transforms.watershed_inputs import WatershedInputsd

__all__ = [
    "BrainOutlined",
    "CheckOneGridd",
    "CheckRanged",
    "CheckSameShaped",
    "ConditionFromLabeld",
    "CountForegroundd",
    "FillModalitiesd",
    "GroupLabelsd",
    "NameByCased",
    "NamedCompose",
    "NormalizeStainsd",
    "RandStainStrengthd",
    "RandWarpd",
    "ScaleIntensityForegroundd",
    "SelectModalitiesd",
    "TernaryLabeld",
    "WatershedInputsd",
    "label_from_condition",
    "pixel_classes",
    "scale_stains",
    "tracking_metadata",
    "varied",
]
