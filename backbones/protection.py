"""A fitted network whose 8-bit numbers survive flipped bits better."""

from torch import Tensor

from penstock.backbones.backbone import Backbone, Call
from penstock.backbones.calibration import calibrate_steps
from penstock.backbones.errors import InputError
from penstock.backbones.saving import build


def protected(backbone: Backbone, images: Tensor, bit_error_rate: float = 1e-3) -> Backbone:
    """The same network with the top bit of its 8-bit numbers stored three times, out of 8.

    Flips of the top bit, or of the sign, do the most harm: read by majority they do none, and the 6
    bits that are left say enough. Redundancy for the bits that matter most is an old idea, this
    layout is ours.

    Args:
        backbone: fitted; left as it was.
        images: some hundred that its steps are chosen on, floats in [0, 1], [n, C, H, W].
        bit_error_rate: at which the new steps err least.

    Raises:
        InputError: if the network's builder has no argument `protected`.
    """
    if backbone.call is None:
        raise InputError("a network is built anew by its Call, got one without; pass call= to it")
    if backbone.call.arguments.get("protected"):
        raise InputError("a network is protected once, got one that is; use it as it stands")
    found = build(Call(backbone.call.builder, {**backbone.call.arguments, "protected": True}))
    found.load_state_dict(backbone.state_dict())
    calibrate_steps(found, images, bit_error_rate)
    return found.eval()
