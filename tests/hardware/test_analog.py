from dataclasses import replace
from math import inf, log10

import pytest
import torch
from torch import Tensor, nn

from penstock.backbones import Block, InputError, Product, Setting, resnet, tiny_resnet
from penstock.backbones.resnet import BasicBlock, Head
from penstock.hardware import (
    Analog,
    Digital,
    Job,
    build_machine,
    calibrate,
    check_machine,
    through,
    vote,
)
from penstock.hardware.analog import Site
from penstock.hardware.converters import adc_j, adc_s, dac_j
from penstock.hardware.disturbance import power

FREE = Digital(
    mac_j=dict.fromkeys((4, 8, 32), 0.0),
    sram_j_per_byte=0.0,
    memory_j_per_byte=0.0,
    macs_per_s=dict.fromkeys((4, 8, 32), inf),
    memory_bytes_per_s=inf,
    launch_s=0.0,
)
"""All that is left to pay is the arrays."""


class Holding(Block):
    """A layer of plain torch."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def compute(self, x: Tensor, setting: Setting) -> Tensor:
        y: Tensor = self.layer(x)
        return y


class Last(nn.Module):
    """Features last."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("power", ["ac", "total"])
@pytest.mark.parametrize("distribution", ["gauss", "uniform"])
@pytest.mark.parametrize("snr_db", [-3.0, 0.0, 10.0, 25.0])
@pytest.mark.parametrize("votes", [1, 4])
def test_measured_ratio_is_the_stated_one(
    power: str, distribution: str, snr_db: float, votes: int
) -> None:
    # A head is one product and nothing behind it: its output is signal and noise.
    torch.manual_seed(0)
    head, x = Head(16, 1000), torch.rand(64, 16, 4, 4)
    machine = Analog(FREE, power=power, distribution=distribution)  # type: ignore[arg-type]
    machine = replace(machine, votes=(1, votes) if votes > 1 else (1,))
    setting = {"snr_db": snr_db, "votes": votes}
    with torch.no_grad():
        clean = head(x, {})
        noisy, _, _ = machine.run(Job(head, x, setting), {}, seeded())
    noise = noisy - clean
    signal = clean.var(dim=1, correction=0) if power == "ac" else clean.square().mean(dim=1)
    measured = 10 * log10((signal / noise.square().mean(dim=1)).mean().item())
    assert measured == pytest.approx(snr_db + 10 * log10(votes), abs=0.1)


@pytest.mark.parametrize("site", ["folded", "raw", "input", "weight"])
def test_noise_enters_where_it_is_said_to(site: Site) -> None:
    torch.manual_seed(0)
    block = BasicBlock(8, 8, stride=1).eval()
    with torch.no_grad():  # a normalisation that is far from doing nothing
        for norm in (block.first_norm, block.second_norm):
            norm.weight.uniform_(0.2, 3.0)
            norm.bias.uniform_(-1.0, 1.0)
    x = torch.rand(4, 8, 12, 12)
    given: list[Product] = []

    def note(product: Product) -> Tensor:
        given.append(product)
        return product.exact()

    with torch.no_grad():
        machine = Analog(FREE, site=site)
        y, _, _ = machine.run(Job(block, x, {"snr_db": 0}, note), {}, seeded())
        clean = block(x, {})
    first = given[0]
    assert torch.equal(first.x.values, x) == (site != "input")
    assert torch.equal(first.weight.values, block.first.weight) == (site != "weight")
    # Only raw sums are performed without what stands behind them.
    assert torch.equal(first.finish(torch.ones(1, 8, 1, 1)), torch.ones(1, 8, 1, 1)) == (
        site == "raw"
    )
    assert not torch.equal(y, clean)


def test_one_power_a_channel_follows_each_channel() -> None:
    torch.manual_seed(0)
    head, x = Head(16, 4), torch.rand(4096, 16, 4, 4)
    with torch.no_grad():
        head.linear.weight[0] *= 100
        machine = Analog(FREE, scope="channel", reference="batch")
        noisy, _, _ = machine.run(Job(head, x, {"snr_db": 0}), {}, seeded())
        clean = head(x, {})
    ratio = clean.var(dim=0, correction=0) / (noisy - clean).square().mean(dim=0)
    torch.testing.assert_close(ratio, torch.ones(4), atol=0.1, rtol=0)


def test_one_power_a_channel_follows_the_weights_of_each_output() -> None:
    torch.manual_seed(0)
    head, x = Head(4096, 4), torch.zeros(1, 4096, 1, 1)
    weight = head.linear.weight
    with torch.no_grad():
        weight[0] *= 100
    found = []

    def note(product: Product) -> Tensor:
        found.append(product.weight.values)
        return product.exact()

    machine = Analog(FREE, site="weight", scope="channel", reference="batch")
    machine.run(Job(head, x, {"snr_db": 0}, note), {}, seeded())
    noise = (found[0] - weight).square().mean(dim=1)
    ratio = weight.var(dim=1, correction=0) / noise
    torch.testing.assert_close(ratio, torch.ones(4), atol=0.1, rtol=0)


def test_bits_that_no_converter_has() -> None:
    with pytest.raises(InputError, match="input_bits are 1 to 10, got 12"):
        Analog(FREE, input_bits=12)


def test_a_channels_power_needs_more_than_one_input() -> None:
    with pytest.raises(InputError, match='set reference = "batch"'):
        Analog(FREE, scope="channel")


def test_choices_rise() -> None:
    with pytest.raises(InputError, match="snr_db are choices that rise"):
        Analog(FREE, snr_db=(20, 10))
    with pytest.raises(InputError, match="votes are choices that rise"):
        Analog(FREE, votes=(3, 3))


def test_frozen_power_does_not_depend_on_company() -> None:
    torch.manual_seed(0)
    network = tiny_resnet().eval()
    images = torch.rand(64, 1, 8, 8)
    machine = calibrate(Analog(FREE), network, images, seeded())
    assert set(machine.signal_power) >= {"stem.convolution", "blocks.2.second", "exits.2.linear"}
    loud = images * torch.linspace(0.1, 1, 64).view(-1, 1, 1, 1)
    noise = []
    for x in (loud[:1], loud):
        with torch.no_grad():
            job = Job(network.stem, x, {"snr_db": 0})
            exact = Job(network.stem, x, {"snr_db": inf})
            y, _, _ = machine.run(job, {}, seeded())
            clean, _, _ = machine.run(exact, {}, seeded())
        moved = (y - clean)[(y > 0) & (clean > 0)]  # a ReLU follows
        noise.append(moved.std().item())
    power = machine.signal_power["stem.convolution"]
    assert noise == pytest.approx([power[0] ** 0.5] * 2, rel=0.3)


def test_only_the_power_of_products_can_be_frozen() -> None:
    with pytest.raises(InputError, match="got 'input'"):
        calibrate(Analog(FREE, site="input"), tiny_resnet(), torch.rand(2, 1, 8, 8), seeded())


def test_cost_by_hand() -> None:
    # One matrix of 16 rows and 10 columns, once: at 20 dB converters of 5 bits.
    machine = Analog(FREE, mac_j=1e-12, read_s=1e-6, votes=(1, 3))
    price = machine.price(Head(16, 10), {"snr_db": 20, "votes": 3}, (16, 4, 4))
    assert price.energy_j == pytest.approx(3 * (160 * 1e-12 + 10 * adc_j(5) + 16 * dac_j(8)))
    assert price.latency_s == pytest.approx(3 * (1e-6 + 8 * adc_s(5, 16)))
    # Ten times less noise power takes ten times the energy of cells, and wider converters.
    less = machine.price(Head(16, 10), {"snr_db": 30, "votes": 3}, (16, 4, 4))
    assert less.energy_j == pytest.approx(3 * (160 * 1e-11 + 10 * adc_j(6) + 16 * dac_j(8)))


def test_tiles_need_converters_each() -> None:
    # 4 channels of 9 taps: 16 rows hold one, so four row tiles, each with converters at all 8
    # columns; 8 columns of which 4 fit: two column tiles, each with converters at all 36 rows.
    machine = Analog(FREE, mac_j=0.0, tile_rows=16, tile_columns=4)
    block = BasicBlock(4, 8, stride=2)
    one = replace(machine, tile_rows=1024, tile_columns=1024)
    energy = [m.price(block, {"snr_db": 20}, (4, 6, 6)).energy_j for m in (machine, one)]
    # 36x8 and 72x8 at 3x3 pixels, and 4x8: 4, 8 and 1 row tiles, 2 column tiles; 9 vectors.
    more = 9 * 8 * (3 + 7 + 0) * adc_j(5) + 9 * (36 + 72 + 4) * dac_j(8)
    assert energy[0] - energy[1] == pytest.approx(more)


def test_depthwise_layers_drive_a_row_for_every_channel() -> None:
    # 6 groups of 9 rows and one column each, 16 vectors.
    machine = Analog(FREE, mac_j=0.0, read_s=0.0)
    price = machine.price(
        Holding(nn.Conv2d(6, 6, 3, padding=1, groups=6)), {"snr_db": 20}, (6, 4, 4)
    )
    assert price.energy_j == pytest.approx(16 * (6 * adc_j(5) + 6 * 9 * dac_j(8)))
    assert price.latency_s == pytest.approx(16 * adc_s(5, 9))


def test_every_token_is_read() -> None:
    # 8 pixels as tokens of 6 features, to 5 each.
    machine = Analog(FREE, mac_j=0.0)
    tokens = Holding(nn.Sequential(nn.Flatten(2), Last(), nn.Linear(6, 5)))
    price = machine.price(tokens, {"snr_db": 20}, (6, 2, 4))
    assert price.energy_j == pytest.approx(8 * (5 * adc_j(5) + 6 * dac_j(8)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_noise_keeps_the_ratio_in_halves(dtype: torch.dtype) -> None:
    head, x = Head(16, 1000).to(dtype), torch.rand(64, 16, 4, 4).to(dtype) + 3
    with torch.no_grad():
        clean = head(x, {})
        noisy, _, _ = Analog(FREE).run(Job(head, x, {"snr_db": 3}), {}, seeded())
    assert noisy.dtype == dtype
    noise, signal = (noisy.float() - clean.float()), clean.float().var(dim=1, correction=0)
    assert 10 * log10((signal / noise.square().mean(dim=1)).mean().item()) == pytest.approx(
        3, abs=0.1
    )


def test_no_lanes_are_no_noise() -> None:
    y, _, _ = Analog(FREE).run(Job(Head(4, 6), torch.rand(0, 4, 2, 2), {}), {}, seeded())
    assert y.shape == (0, 6)


def test_gradients_pass_through_the_noise() -> None:
    network = tiny_resnet().train()
    run = through(Analog(FREE, reference="batch"), seeded(), {"snr_db": 0})
    loss = network.answers(torch.rand(8, 1, 8, 8), run=run)[2].sum()
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None for p in network.parameters() if p.dim() == 4)


@pytest.mark.parametrize("site", ["folded", "raw", "input", "weight"])
@pytest.mark.parametrize("power", ["ac", "total"])
def test_gradients_know_that_noise_grows_with_the_signal(site: Site, power: str) -> None:
    torch.manual_seed(0)
    head, x = Head(4, 6), torch.rand(3, 4, 2, 2, requires_grad=True)
    machine = Analog(FREE, site=site, power=power)  # type: ignore[arg-type]

    def loss() -> Tensor:
        y, _, _ = machine.run(Job(head, x, {"snr_db": 0}), {}, seeded())
        return y.square().sum()

    loss().backward()  # type: ignore[no-untyped-call]
    for values in (x, head.linear.weight):
        assert values.grad is not None
        at = values.detach().view(-1)  # shares memory
        with torch.no_grad():
            at[5] += 1e-2
            above = loss()
            at[5] -= 2e-2
            below = loss()
            at[5] += 1e-2
        by_difference = (above - below).item() / 2e-2
        assert values.grad.view(-1)[5].item() == pytest.approx(by_difference, rel=0.02)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_power_beside_a_large_mean_is_that_of_the_difference(dtype: torch.dtype) -> None:
    z = 1000 + torch.randn(4, 8, 50, 50, generator=seeded()).to(dtype)
    found = power(z, "ac", "layer", "input")
    assert found.flatten().tolist() == pytest.approx(
        z.double().flatten(1).var(dim=1, correction=0).tolist(), rel=1e-3
    )


@pytest.mark.parametrize(("votes", "kind"), [(0, "soft"), (3, "sfot")])
def test_votes_that_are_none_are_refused(votes: int, kind: str) -> None:
    network, images = resnet(8, 0.25, size=8).eval(), torch.rand(2, 3, 8, 8)
    with pytest.raises(InputError, match="1 or more votes are soft or hard"):
        vote(network, images, through(Analog(FREE), seeded()), votes, kind)  # type: ignore[arg-type]


def test_a_signal_without_power_has_a_gradient() -> None:
    head = Head(4, 6)
    torch.nn.init.zeros_(head.linear.weight)
    torch.nn.init.zeros_(head.linear.bias)
    y, _, _ = Analog(FREE).run(Job(head, torch.rand(3, 4, 2, 2), {"snr_db": 0}), {}, seeded())
    y.sum().backward()  # type: ignore[no-untyped-call]
    assert head.linear.weight.grad is not None
    assert head.linear.weight.grad.isfinite().all()


@pytest.mark.parametrize(
    "machine",
    [
        build_machine("analog"),
        Analog(FREE, site="raw", power="total"),
        Analog(FREE, site="input", distribution="uniform"),
        Analog(FREE, site="weight", votes=(1, 3)),
        Analog(FREE, scope="channel", reference="batch"),
    ],
    ids=lambda m: m.site,
)
def test_every_site_keeps_the_rules(machine: Analog) -> None:
    check_machine(machine)


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_votes_say_what_most_passes_say(kind: str) -> None:
    torch.manual_seed(0)
    network, images = resnet(8, 0.25, size=8).eval(), torch.rand(32, 3, 8, 8)
    machine = Analog(FREE)
    with torch.no_grad():
        clean = network(images).argmax(dim=1)
    agree = [
        (vote(network, images, through(machine, seeded(), {"snr_db": 10}), n, kind).argmax(1))  # type: ignore[arg-type]
        .eq(clean)
        .float()
        .mean()
        .item()
        for n in (1, 25)
    ]
    assert agree[1] > agree[0]
    score = vote(network, images, through(machine.ideal(), seeded()), 3, kind)  # type: ignore[arg-type]
    assert torch.equal(score.argmax(dim=1), clean)
    assert (score >= 0).all() and (score <= 2).all()
