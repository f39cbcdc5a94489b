"""A network that is stored more safely."""

import pytest
import torch

from penstock.backbones import (
    Backbone,
    Call,
    InputError,
    Product,
    load_data,
    perform_network,
    shipped,
    tiny_resnet,
    with_protection,
)
from penstock.hardware.fingerprint import fingerprint


def images() -> torch.Tensor:
    return load_data("digits").train.pixels[:100] / 255


def test_other_precisions_stay_as_they_were() -> None:
    plain, x = shipped("digits"), images()
    found = with_protection(plain, x)
    same = []
    for bits in (4, 8, 32):
        setting = {"bits": bits}
        both = [net.answers(x, setting, stem=setting) for net in (plain, found)]
        same.append(all(torch.equal(both[0][head], both[1][head]) for head in both[0]))
    assert same == [True, False, True]


def test_steps_let_numbers_fill_their_bits() -> None:
    found = with_protection(shipped("digits"), images(), bit_error_rate=0.0)
    tops: list[tuple[int, int]] = []

    def look(product: Product) -> torch.Tensor:
        if product.x.step is not None:
            code = int((product.x.values / product.x.step).abs().amax().round())
            tops.append((code, 31 if product.x.signed else 63))
        return product.exact()

    perform_network(found, look, images(), {"bits": 8})
    assert all(most // 2 <= code <= most for code, most in tops)


def test_another_network_than_without() -> None:
    plain = tiny_resnet()
    found = with_protection(plain, torch.rand(10, 1, 8, 8))
    found.load_state_dict(plain.state_dict())
    assert fingerprint(found.stem) != fingerprint(plain.stem)


def heedless(**_: object) -> Backbone:
    return tiny_resnet()


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (None, "built anew by its Call"),
        (Call("penstock.backbones:resnet", {"depth": 8, "protected": True}), "protected once"),
        (Call("penstock.backbones:tiny_resnet", {}), "does not take"),
        (Call(f"{__name__}:heedless", {}), "and none protected"),
    ],
)
def test_what_cannot_be_protected_is_one_sentence(call: Call | None, sentence: str) -> None:
    backbone = tiny_resnet()
    backbone.call = call
    with pytest.raises(InputError, match=sentence):
        with_protection(backbone, torch.rand(10, 1, 8, 8))
