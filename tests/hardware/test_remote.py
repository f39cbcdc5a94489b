"""The far half on a real server: the same answers, and what happens when it is not there."""

import json
import pickle
from collections.abc import Iterator
from dataclasses import replace
from time import sleep
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from penstock.backbones import FULL, Backbone, Images, InputError, Setting, shipped, tiny_resnet
from penstock.envs import Lanes, Live, Stream
from penstock.hardware import Job, Link, Remote, Split, build_machine, through
from penstock.hardware.bound import check_network
from penstock.hardware.features import FLOAT_BITS, code, decode
from penstock.hardware.fingerprint import fingerprint
from penstock.hardware.probe import probe
from penstock.hardware.server import FarHalf, Socket
from penstock.hardware.wire import Answer, Network, Question, _message
from penstock.scripts.shaping import shaped

PHONE = build_machine("phone")
LINK = Link(5e6, rtt_s=0.01)


@pytest.fixture(scope="module")
def served() -> Iterator[Socket]:
    """A server of the digits network."""
    socket = Socket(FarHalf(shipped("digits")))
    yield socket
    socket.close()


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return shipped("digits")


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def split(port: int, **changes: Any) -> Split:
    machine = Split(PHONE, Remote(f"127.0.0.1:{port}"), LINK, bits=(3, 8, 32), timeout_s=5.0)
    return replace(machine, **changes)


@torch.no_grad()
def answers(
    backbone: Backbone,
    images: Tensor,
    machine: Split,
    at: int,
    offload: int,
    setting: Setting = FULL,
) -> dict[int, Tensor]:
    """What every head says when the features leave before a block, -1 being the stem."""
    run = through(machine, torch.Generator(), setting)
    stem: Setting = {"offload": offload} if at < 0 else {}
    each = [{"offload": offload} if index == at else {} for index in range(backbone.depth)]
    return backbone.answers(images, each, stem=stem, run=run)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("at", [-1, 0, 3, 5])
def test_exact_features_give_the_same_logits_to_the_last_bit(
    served: Socket, backbone: Backbone, images: Tensor, at: int, layout: torch.memory_format
) -> None:
    images = images.contiguous(memory_format=layout)
    with torch.no_grad():
        here = backbone.answers(images)
    there = answers(backbone, images, split(served.port), at, 32)
    assert all(torch.equal(here[index], there[index]) for index in here)


@pytest.mark.parametrize("bits", [3, 8])
def test_rounded_features_give_what_the_model_says(
    served: Socket, backbone: Backbone, images: Tensor, bits: int
) -> None:
    modelled = replace(split(served.port), far=build_machine("server"))
    here = answers(backbone, images, modelled, 2, bits)
    there = answers(backbone, images, split(served.port), 2, bits)
    assert all(torch.equal(here[index], there[index]) for index in here)


def test_the_server_runs_the_rest_at_the_setting_given(
    served: Socket, backbone: Backbone, images: Tensor
) -> None:
    narrow: Setting = {"width": 0.5, "bits": 8}
    with torch.no_grad():
        here = backbone.answers(images, narrow, stem=narrow)
    there = answers(backbone, images, split(served.port), 0, 32, narrow)
    assert all(torch.equal(here[index], there[index]) for index in here)


@torch.no_grad()
def test_latency_is_measured_once_and_energy_follows(
    served: Socket, backbone: Backbone, images: Tensor
) -> None:
    machine, rng = split(served.port), torch.Generator()
    x = backbone.stem(images, {})
    state = machine.reset(3, rng)
    _, cost, state = machine.run(Job(backbone.block(0), x, {"offload": 32}), state, rng)
    latency_s, energy_j, _, sent_bytes = (cost.rows()[:, index] for index in (1, 0, 2, 3))
    assert (0 < latency_s).all() and (latency_s < 5).all() and (sent_bytes == 2048).all()
    price = machine.price(backbone.block(0), {"offload": 32}, (8, 8, 8))
    assert (cost.rows() <= price.rows()).all()
    # 2048 bytes take 8 * 2048 / 5e6 s of that, if it was as long; the rest is waiting.
    sending_s = latency_s.clamp(max=8 * 2048 / 5e6)
    expected = LINK.energy_j(8 * 2048, sending_s, latency_s - sending_s)
    assert torch.allclose(energy_j, torch.as_tensor(expected))
    y, cost, state = machine.run(Job(backbone.block(1), x, {"offload": 32}), state, rng)
    assert (y == 0).all() and y.shape == x.shape
    assert (cost.rows() == 0).all() and state["away"].tolist() == [1.0] * 3


def test_lanes_that_stay_are_run_here(served: Socket, backbone: Backbone) -> None:
    images = Images(
        torch.randint(256, (20, 1, 8, 8), dtype=torch.uint8),
        torch.randint(10, (20,)),
        tuple(map(str, range(10))),
    )
    stream = Stream(choices={"run": [1], "width": [1.0], "bits": [32]})
    lanes = Lanes(Live(backbone, split(served.port, bits=(32,)), images), stream, lanes=20)
    lanes.start(torch.arange(20), torch.arange(20).unsqueeze(1))
    leaves_at = torch.arange(20) % 7  # before a block, or never
    for depth in range(backbone.depth):
        offload = torch.where(leaves_at == depth, 0, 1)
        lanes.step(torch.stack([torch.ones(20, dtype=torch.long), offload], dim=1))
    with torch.no_grad():
        exactly = backbone(images.pixels.float() / 255)
    assert torch.allclose(lanes.logits, exactly, atol=1e-5)


# Refusals -----------------------------------------------------------------------------------------


def test_other_weights_are_refused_by_the_device(served: Socket, images: Tensor) -> None:
    other = shipped("digits")
    with torch.no_grad():
        next(other.block(4).parameters())[0] += 1e-3
    with pytest.raises(InputError, match=r"same network, but blocks\.4 has fingerprint .* weights"):
        answers(other, images, split(served.port), 0, 32)
    with pytest.raises(InputError, match="but stem has fingerprint"):
        answers(tiny_resnet(), images, split(served.port), -1, 32)


def test_other_weights_are_refused_by_the_server(backbone: Backbone, images: Tensor) -> None:
    half = FarHalf(shipped("digits"))
    question = Question("f" * 64, "stem", code(images, 8), {})
    with pytest.raises(InputError, match="of the network ffffffffffff and this server runs"):
        half.answer(question.to_bytes())


def test_a_server_that_was_changed_is_noticed(backbone: Backbone, images: Tensor) -> None:
    socket = Socket(FarHalf(shipped("digits")))
    machine = split(socket.port)
    answers(backbone, images, machine, 0, 32)
    socket.close()
    changed = shipped("digits")
    with torch.no_grad():
        next(changed.block(4).parameters())[0] += 1e-3
    again = Socket(FarHalf(changed), port=socket.port)
    sentence = None
    for _ in range(100):  # until the connection is there again, lanes run here
        try:
            answers(backbone, images, machine, 0, 32)
        except InputError as error:
            sentence = str(error)
            break
        sleep(0.05)
    again.close()
    assert sentence is not None and "refuses: the features are of the network" in sentence


def test_fingerprints_follow_weights() -> None:
    one, two = shipped("digits").block(0), shipped("digits").block(0)
    assert fingerprint(one) == fingerprint(two) != fingerprint(shipped("digits").block(1))
    before = fingerprint(one)
    with torch.no_grad():
        next(one.parameters())[0] += 1e-6
    assert fingerprint(one) != before
    before = fingerprint(one)
    next(one.parameters()).data.mul_(2)  # which torch does not count as a change
    assert fingerprint(one) != before


def test_a_server_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match=r"a server at 127\.0\.0\.1:1, and none answers; start"):
        split(1).reset(1, torch.Generator())


def test_features_beyond_the_server_s_limit_are_not_sent(backbone: Backbone) -> None:
    socket = Socket(FarHalf(shipped("digits"), most_bytes=20_000))
    with pytest.raises(InputError, match="takes messages of 20000 bytes, got features of"):
        answers(backbone, torch.rand(30, 1, 8, 8), split(socket.port), 0, 32)
    socket.close()


def test_a_port_that_is_taken_is_named(served: Socket) -> None:
    with pytest.raises(InputError, match=f"127.0.0.1:{served.port} cannot be listened on"):
        Socket(FarHalf(shipped("digits")), port=served.port)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"block": "blocks.77"}, r"blocks\.77 takes features None, got \(8, 8, 8\)"),
        ({"block": "blocks.5"}, r"blocks\.5 takes features \(32, 2, 2\), got \(8, 8, 8\)"),
        ({"setting": {"width": 0.3}}, r"knob 'width' can stand at \(0\.25, .* got 0\.3"),
    ],
)
def test_what_cannot_be_run_is_explained(changes: dict[str, Any], sentence: str) -> None:
    half = FarHalf(shipped("digits"))
    right = Question(half.network.fingerprint, "blocks.0", code(torch.rand(2, 8, 8, 8), 8), {})
    assert Answer.from_bytes(half.answer(right.to_bytes())).logits.shape == (2, 3, 10)
    with pytest.raises(InputError, match=sentence):
        half.answer(replace(right, **changes).to_bytes())


# Messages -----------------------------------------------------------------------------------------


@given(st.sampled_from([1, 3, 7, 8, 32]), st.integers(1, 4), st.integers(1, 5))
def test_features_survive_the_wire(bits: int, n: int, channels: int) -> None:
    x = torch.rand(n, channels, 3, 5)
    question = Question("n", "blocks.1", code(x, bits), {"width": 0.5})
    data = question.to_bytes()
    again = Question.from_bytes(data)
    assert torch.equal(decode(again.coded), decode(question.coded))
    assert (again.network, again.block, again.setting) == ("n", "blocks.1", {"width": 0.5})
    payload = -(-x.numel() * bits // 8) + (0 if bits == FLOAT_BITS else 8 * n)
    assert payload <= len(data) <= payload + 600


FAR_HALF = FarHalf(tiny_resnet())


@given(st.binary(max_size=200), st.integers(0, 400))
def test_no_bytes_upset_a_server(noise: bytes, place: int) -> None:
    right = Question(FAR_HALF.network.fingerprint, "stem", code(torch.rand(1, 1, 8, 8), 3), {})
    data = right.to_bytes()
    place %= len(data)
    for message in (noise, data[:place] + noise + data[place + len(noise) :], data[:place]):
        try:
            Answer.from_bytes(FAR_HALF.answer(message))
        except InputError as error:
            assert str(error)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
)


@given(
    st.sampled_from(["network", "block", "setting", "bits", "shape", "channels_last", "version"]),
    anything,
)
def test_no_words_upset_a_server(name: str, value: object) -> None:
    right = Question(FAR_HALF.network.fingerprint, "stem", code(torch.rand(1, 1, 8, 8), 8), {})
    data = right.to_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    words = json.loads(header["__metadata__"]["penstock"])
    header["__metadata__"]["penstock"] = json.dumps({**words, name: value})
    changed = json.dumps(header).encode()
    try:
        FAR_HALF.answer(len(changed).to_bytes(8, "little") + changed + data[8 + size :])
    except InputError as error:
        assert str(error)


def test_another_version_is_refused() -> None:
    data = FAR_HALF.greet(b"").replace(b'"version\\": 1', b'"version\\": 9')
    with pytest.raises(InputError, match=r"speak version 1 and 9 .* install the same release"):
        Network.from_bytes(data)


# Links that fail ----------------------------------------------------------------------------------


def test_a_link_that_is_cut_is_survived_and_counted(
    served: Socket, backbone: Backbone, images: Tensor
) -> None:
    with torch.no_grad():
        here = backbone.answers(images)
    with shaped(served.port, 1e8, 0.001) as line:
        machine, rng = split(line.port), torch.Generator()
        answers(backbone, images, machine, 2, 32)
        line.cut()
        there = answers(backbone, images, machine, 2, 32)
        assert all(torch.equal(here[index], there[index]) for index in here)
        state = machine.reset(3, rng)
        with torch.no_grad():
            x = backbone.stem(images, {})
            for lost in (1, 2):
                job = Job(backbone.block(0), x, {"offload": 32})
                y, cost, state = machine.run(job, state, rng)
                assert torch.equal(y, backbone.block(0)(x, {}))
                assert state["lost"].flatten().tolist() == [lost] * 3
                assert state["away"].tolist() == [0.0] * 3
                assert (cost.rows()[:, 1] < 1).all()  # known at once, not after the timeout


def test_a_link_that_is_too_slow_is_given_up(
    served: Socket, backbone: Backbone, images: Tensor
) -> None:
    with shaped(served.port, 1e5, 0.001) as line:  # 3 * 2 kB would take half a second
        machine, rng = split(line.port, timeout_s=0.1), torch.Generator()
        state = machine.reset(3, rng)
        with torch.no_grad():
            x = backbone.stem(images, {})
            job = Job(backbone.block(0), x, {"offload": 32})
            y, cost, state = machine.run(job, state, rng)
            assert torch.equal(y, backbone.block(0)(x, {}))
        assert state["lost"].flatten().tolist() == [1.0] * 3
        near = PHONE.price(backbone.block(0), {}, (8, 8, 8)).latency_s
        assert cost.rows()[:, 1].tolist() == pytest.approx([0.1 + float(near)] * 3)


def test_a_server_that_comes_back_is_used_again(backbone: Backbone, images: Tensor) -> None:
    socket = Socket(FarHalf(shipped("digits")))
    machine, rng = split(socket.port), torch.Generator()
    state = machine.reset(3, rng)
    socket.close()
    with torch.no_grad():
        job = Job(backbone.block(0), backbone.stem(images, {}), {"offload": 32})
        _, _, state = machine.run(job, state, rng)
        assert state["lost"].flatten().tolist() == [1.0] * 3
        again = Socket(FarHalf(shipped("digits")), port=socket.port)
        for _ in range(200):
            _, _, state = machine.run(job, state, rng)
            if state["away"].any():
                break
            sleep(0.02)
    again.close()
    assert state["away"].tolist() == [1.0] * 3


def test_a_split_over_a_socket_pickles(served: Socket, backbone: Backbone, images: Tensor) -> None:
    machine = split(served.port)
    answers(backbone, images, machine, 0, 32)  # the connection is there, and stays out of it
    again = pickle.loads(pickle.dumps(machine))
    assert again == machine
    assert answers(backbone, images, again, 0, 32).keys() == {1, 3, 5}


@torch.no_grad()
def test_without_its_faults_it_gives_what_the_blocks_give(
    served: Socket, backbone: Backbone, images: Tensor
) -> None:
    run = through(split(served.port).ideal(), torch.Generator(), {"offload": 3})
    assert torch.equal(backbone.answers(images, run=run)[5], backbone(images))


# Probing ------------------------------------------------------------------------------------------


def test_a_probe_finds_what_a_line_was_shaped_to(served: Socket) -> None:
    with shaped(served.port, 8e6, 0.02) as line:
        found = probe(f"127.0.0.1:{line.port}", repeats=5)
        before = line.sent_bytes
        Remote(f"127.0.0.1:{line.port}").echo(bytes(10_000), 5.0)
        assert 10_000 <= line.sent_bytes - before < 11_000
    assert 0.02 <= found.rtt_s < 0.03
    assert found.bandwidth_bps == pytest.approx(8e6, rel=0.1)


def test_a_probe_of_a_dead_line_is_explained(served: Socket) -> None:
    with shaped(served.port, 8e6, 0.02) as line:
        address = f"127.0.0.1:{line.port}"
        Remote(address).network()
        line.cut()
        with pytest.raises(InputError, match=r"should carry 0 bytes .* and failed"):
            probe(address)


def test_greetings_and_answers_that_lack_something_are_explained() -> None:
    with pytest.raises(InputError, match="a greeting lacks something"):
        Network.from_bytes(_message({}, {"blocks": {}, "heads": []}))
    with pytest.raises(InputError, match="an answer holds logits, got nothing"):
        Answer.from_bytes(_message({}, {}))


def test_an_answer_is_one_for_each_question(backbone: Backbone, images: Tensor) -> None:
    class Short(FarHalf):  # type: ignore[misc]  # final for users; here it plays another release
        def answer(self, data: bytes) -> bytes:
            return Answer(Answer.from_bytes(super().answer(data)).logits[:1]).to_bytes()

    socket = Socket(Short(backbone))
    try:
        with pytest.raises(InputError, match=r"logits \(3, 3, 10\), got \(1, 3, 10\)"):
            answers(backbone, images, split(socket.port), 0, 32)
    finally:
        socket.close()


def test_it_fits_the_network_that_is_served(served: Socket, backbone: Backbone) -> None:
    check_network(split(served.port), backbone)
    with pytest.raises(InputError, match="should run the same network"):
        check_network(split(served.port), tiny_resnet())
