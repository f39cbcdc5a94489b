"""A fitted network whose 8-bit numbers survive flipped bits better."""

from torch import Tensor

from penstock.backbones.backbone import Backbone, Call
from penstock.backbones.calibration import calibrate_steps
from penstock.backbones.errors import InputError
from penstock.backbones.layout import is_protected
from penstock.backbones.precision import LOW_BITS, Convolution
from penstock.backbones.saving import build


def with_protection(backbone: Backbone, images: Tensor, bit_error_rate: float = 1e-3) -> Backbone:
    """The same network with the top bit of its 8-bit numbers stored three times, out of 8.

    Flips of the top bit, or of the sign, do the most harm. Read by majority one of three does none,
    and the 6 bits that are left say enough. To store more often what matters most is an old idea,
    this layout is ours. It needs a memory that votes; heads of plain torch are floats and stay.

    Args:
        backbone: fitted, on the CPU; left as it was.
        images: some hundred that its steps are chosen on, floats in [0, 1], [n, C, H, W].
        bit_error_rate: at which the new steps err least.

    Raises:
        InputError: if it is protected, or its builder has no argument `protected` or does not heed
            it.
    """
    if backbone.call is None:
        raise InputError("a network is built anew by its Call, got one without; pass call= to it")
    if backbone.call.arguments.get("protected"):
        raise InputError("a network is protected once, got one that is; use it as it stands")
    found = build(Call(backbone.call.builder, {**backbone.call.arguments, "protected": True}))
    found.load_state_dict(backbone.state_dict())
    layers = [layer for layer in found.modules() if isinstance(layer, Convolution)]
    if not any(layer.protected for layer in layers):
        raise InputError(
            f"{backbone.call.builder} should hand `protected` to Convolutions, got "
            f"{len(layers)} of them and none protected; only these can be"
        )
    before = [layer.steps.clone() for layer in layers]
    calibrate_steps(found, images, bit_error_rate)
    for layer, steps in zip(layers, before, strict=True):
        for row, bits in enumerate(LOW_BITS):
            if not is_protected(bits, layer.protected):
                layer.steps[row] = steps[row]
    return found.eval()
