"""Whether images are what a network takes."""

from penstock.backbones.backbone import Backbone
from penstock.backbones.data import Images
from penstock.backbones.errors import InputError


def check_images(images: Images, backbone: Backbone) -> None:
    """Refuse images of another shape or of other classes.

    Raises:
        InputError: if they are.
    """
    if images.shape != backbone.shape:
        raise InputError(
            f"the network takes images {backbone.shape} (C, H, W), the data has "
            f"{images.shape}; give the data's size and channels, or another backbone"
        )
    if len(images.classes) != backbone.classes:
        raise InputError(
            f"the network names {backbone.classes} classes, the data has {len(images.classes)}; "
            "fit a backbone to these data"
        )
