import pytest

from penstock.backbones import BITS, EXIT, FULL, RUN, WIDTH, Knob, every_setting


@pytest.mark.parametrize("knob", [RUN, WIDTH, BITS, EXIT])
def test_last_choice_is_the_full_network(knob: Knob) -> None:
    assert knob.full == knob.choices[-1]
    assert [knob.index(choice) for choice in knob.choices] == list(range(len(knob.choices)))


def test_full_network_is_an_empty_setting() -> None:
    assert dict(FULL) == {}
    assert (RUN.full, WIDTH.full, BITS.full, EXIT.full) == (1, 1.0, 32, 0)


def test_choice_that_is_none() -> None:
    with pytest.raises(ValueError, match=r"knob 'bits' can stand at \(4, 8, 32\), got 16"):
        BITS.index(16)


@pytest.mark.parametrize("choices", [(), (1, 1), (0, 1, 1.0)])
def test_choices_must_differ(choices: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="knob 'width' needs one or more different choices, got"):
        Knob("width", choices)


def test_every_setting_turns_the_last_knob_fastest() -> None:
    assert list(every_setting((RUN, Knob("bits", (4, 8))))) == [
        {"run": 0, "bits": 4},
        {"run": 0, "bits": 8},
        {"run": 1, "bits": 4},
        {"run": 1, "bits": 8},
    ]
    assert list(every_setting(())) == [{}]
    every = list(every_setting((RUN, WIDTH, BITS)))
    assert len(every) == 2 * 4 * 3
    assert every[-1] == {"run": RUN.full, "width": WIDTH.full, "bits": BITS.full}
