"""Networks as stacks of blocks with knobs, their data, and how to fit and keep them."""

from penstock.backbones.backbone import Backbone, Call, Run, RunAt, restrict, run_exactly
from penstock.backbones.block import Block
from penstock.backbones.data import Data, Images, load_data
from penstock.backbones.errors import InputError
from penstock.backbones.knob import (
    BITS,
    EXIT,
    FULL,
    RUN,
    WIDTH,
    Knob,
    Setting,
    chosen,
    every_setting,
)
from penstock.backbones.matrices import Matrix, matrices
from penstock.backbones.order import black, in_order
from penstock.backbones.performing import perform_network, run_block
from penstock.backbones.product import Operand, Perform, Product, exact
from penstock.backbones.protection import with_protection
from penstock.backbones.resnet import resnet, staged_resnet, tiny_resnet
from penstock.backbones.saving import build, load, save, shipped
from penstock.backbones.work import Work, work

__all__ = [
    "BITS",
    "EXIT",
    "FULL",
    "RUN",
    "WIDTH",
    "Backbone",
    "Block",
    "Call",
    "Data",
    "Images",
    "InputError",
    "Knob",
    "Matrix",
    "Operand",
    "Perform",
    "Product",
    "Run",
    "RunAt",
    "Setting",
    "Work",
    "black",
    "build",
    "chosen",
    "every_setting",
    "exact",
    "in_order",
    "load",
    "load_data",
    "matrices",
    "perform_network",
    "resnet",
    "restrict",
    "run_block",
    "run_exactly",
    "save",
    "shipped",
    "staged_resnet",
    "tiny_resnet",
    "with_protection",
    "work",
]
