"""Numbers as bits: all of them, with all flips."""

import pytest
import torch

from penstock.backbones.layout import decoded, encoded, used_bits


def outvoted(text: str, signed: bool) -> int:
    """Of eight stored bits, the highest first, of which three are copies: in plain Python."""
    top = "1" if text[:3].count("1") >= 2 else "0"
    number = int(top + text[3:], 2)
    return number - 64 if signed and top == "1" else number


@pytest.mark.parametrize("signed", [False, True])
def test_protected_numbers_with_every_flip(signed: bool) -> None:
    for code in range(-32, 32) if signed else range(64):
        stored = encoded(torch.tensor([code], dtype=torch.int32), 8, signed, True)
        text = f"{int(stored):08b}"
        assert text[:3] in ("000", "111") and outvoted(text, signed) == code
        masks = torch.arange(256, dtype=torch.int32)
        read = decoded(stored ^ masks, 8, signed, True).tolist()
        assert read == [outvoted(f"{int(stored) ^ mask:08b}", signed) for mask in range(256)]


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [4, 8])
def test_plain_numbers_stay(bits: int, signed: bool) -> None:
    low, high = (-(1 << bits - 1), 1 << bits - 1) if signed else (0, 1 << bits)
    codes = torch.arange(low, high, dtype=torch.int32)
    for protected in (False, bits == 4):
        assert torch.equal(
            decoded(encoded(codes, bits, signed, protected), bits, signed, protected), codes
        )


def test_only_integers_with_bits_to_spare_are_protected() -> None:
    assert [used_bits(bits, True) for bits in (4, 8, 16, 32)] == [4, 6, 14, 32]
