"""Every example in a docstring is true."""

import doctest
import importlib
import pkgutil

import pytest

FOLDERS = ("backbones", "hardware", "envs", "agents", "scripts", "scripts.reproduce")
PACKAGES = [f"penstock.{folder}" for folder in FOLDERS]
MODULES = [
    f"{package}.{module.name}"
    for package in PACKAGES
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__)
]


@pytest.mark.parametrize("name", PACKAGES + MODULES)
def test_examples_run(name: str) -> None:
    if "rllib" in name:
        pytest.importorskip("ray")
    module = importlib.import_module(name)
    assert doctest.testmod(module).failed == 0
