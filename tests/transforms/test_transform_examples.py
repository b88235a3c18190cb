"""The examples in the docstrings say what happens."""

import doctest
import importlib

import numpy as np
import pytest
import torch

MODULES = [
    "brain_outline",
    "check_one_grid",
    "check_range",
    "check_same_shape",
    "condition",
    "grids",
    "group_labels",
    "name_by_case",
    "normalize_stains",
    "scale_intensity",
    "select_modalities",
    "source_name",
    "stain_strength",
    "ternary_label",
    "watershed_inputs",
    "whole_numbers",
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    module = importlib.import_module(f"bundle.transforms.{name}")
    result = doctest.testmod(module, extraglobs={"np": np, "torch": torch})
    assert result.attempted > 0
    assert result.failed == 0
