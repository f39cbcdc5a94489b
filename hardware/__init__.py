"""Machines that run blocks and say what that cost."""

from penstock.hardware.adc_range import calibrate_range
from penstock.hardware.ageing import Ageing
from penstock.hardware.analog import Analog, calibrate
from penstock.hardware.bit_errors import BitErrors
from penstock.hardware.build import Constant, build_machine, constants, preset_names
from penstock.hardware.check import check_machine
from penstock.hardware.chip import save_chip
from penstock.hardware.cost import RESOURCES, UNITS, Cost, Job
from penstock.hardware.crossbar import Crossbar
from penstock.hardware.digital import Digital
from penstock.hardware.dram import Dram
from penstock.hardware.exposure import Exposure
from penstock.hardware.heat import Heated
from penstock.hardware.link import LTE, THREE_G, WIFI, Link, Radio
from penstock.hardware.machine import Machine, State
from penstock.hardware.measured import Measured
from penstock.hardware.norms import with_own_norms
from penstock.hardware.plausible import plausible_ranges
from penstock.hardware.recorded import Recorded
from penstock.hardware.remote import Remote
from penstock.hardware.sparse import Sparse
from penstock.hardware.split import Split
from penstock.hardware.synthetic import Switched, Synthetic
from penstock.hardware.through import through
from penstock.hardware.votes import passes, tally, vote

__all__ = [
    "LTE",
    "RESOURCES",
    "THREE_G",
    "UNITS",
    "WIFI",
    "Ageing",
    "Analog",
    "BitErrors",
    "Constant",
    "Cost",
    "Crossbar",
    "Digital",
    "Dram",
    "Exposure",
    "Heated",
    "Job",
    "Link",
    "Machine",
    "Measured",
    "Radio",
    "Recorded",
    "Remote",
    "Sparse",
    "Split",
    "State",
    "Switched",
    "Synthetic",
    "build_machine",
    "calibrate",
    "calibrate_range",
    "check_machine",
    "constants",
    "passes",
    "plausible_ranges",
    "preset_names",
    "save_chip",
    "tally",
    "through",
    "vote",
    "with_own_norms",
]
