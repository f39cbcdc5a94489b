"""Statistics of normalisation, measured on a machine."""

import torch

from penstock.backbones import Backbone, load_data, shipped
from penstock.hardware import BitErrors, build_machine, plausible_ranges, with_own_norms
from penstock.hardware.eden import coarse
from penstock.hardware.judging import judge


def test_statistics_of_one_chip_win_answers_back_and_others_stay() -> None:
    plain, data = shipped("digits"), load_data("digits")
    some = data.train.pixels / 255
    plausible = plausible_ranges(plain, some[:256], [{"bits": 8}])
    memory = BitErrors(build_machine("edge"), chip=3, plausible=plausible)
    setting = {"bits": 8, "bit_error_rate": 1e-2}
    before = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    own = with_own_norms(plain, memory, setting, some[:512])
    shares = [judge(each, data.validation, memory, setting).accuracy for each in (plain, own)]
    assert shares[1] > shares[0] + 0.05

    assert all(torch.equal(tensor, before[name]) for name, tensor in plain.state_dict().items())
    with torch.no_grad():
        assert torch.equal(own(some[:20]), plain(some[:20]))  # at 32 bits, which were not measured

    def at_rate(rate: float) -> Backbone:
        return with_own_norms(plain, memory, {"bits": 8, "bit_error_rate": rate}, some[:512])

    as_given, used = (
        coarse(plain, data.validation, memory, 0.6, {"bits": 8}, decades=0.2, at_rate=how)
        for how in (None, at_rate)
    )
    assert used > as_given
