"""Machines that run blocks and say what that cost."""

from penstock.hardware.build import Constant, build_machine, constants, preset_names
from penstock.hardware.check import check_machine
from penstock.hardware.cost import RESOURCES, UNITS, Cost, Job
from penstock.hardware.digital import Digital
from penstock.hardware.machine import Machine, State
from penstock.hardware.through import through

__all__ = [
    "RESOURCES",
    "UNITS",
    "Constant",
    "Cost",
    "Digital",
    "Job",
    "Machine",
    "State",
    "build_machine",
    "check_machine",
    "constants",
    "preset_names",
    "through",
]
