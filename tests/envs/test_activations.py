import torch

from penstock.envs.activations import Activations, rows_or_all

SHAPE = (1, 2, 2)


def rows(*indices: int) -> torch.Tensor:
    return torch.tensor(indices)


def test_lanes_of_one_shape_keep_apart() -> None:
    activations, some = Activations(3, torch.device("cpu")), torch.rand(2, *SHAPE)
    activations.put(SHAPE, rows(2, 0), some)
    activations.put(SHAPE, rows(1), torch.full((1, *SHAPE), 7.0))
    assert torch.equal(activations.take(SHAPE, rows(0, 2)), some.flip(0))
    assert (activations.take(SHAPE, slice(None))[1] == 7).all()


def test_what_was_put_by_all_is_not_written_when_some_move_on() -> None:
    activations, everybody = Activations(3, torch.device("cpu")), torch.rand(3, *SHAPE)
    before = everybody.clone()
    activations.put(SHAPE, slice(None), everybody)
    assert activations.take(SHAPE, slice(None)).data_ptr() == everybody.data_ptr()
    for value in (7.0, 8.0):
        activations.put(SHAPE, rows(1), torch.full((1, *SHAPE), value))
        assert torch.equal(everybody, before)
        assert torch.equal(activations.take(SHAPE, rows(0, 2)), before[[0, 2]])
        assert (activations.take(SHAPE, rows(1)) == value).all()


def test_only_all_lanes_in_order_are_everyone() -> None:
    assert rows_or_all(rows(0, 1, 2), 3) == slice(None)
    for some in (rows(0, 1), rows(2, 1, 0), rows(0, 0, 2)):
        assert rows_or_all(some, 3) is some
