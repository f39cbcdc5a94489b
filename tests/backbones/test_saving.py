import json
import os
import resource
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from penstock.backbones import (
    Backbone,
    Call,
    InputError,
    build,
    load,
    resnet,
    save,
    shipped,
    staged_resnet,
    tiny_resnet,
)
from penstock.backbones.normalization import SettingNorm
from penstock.backbones.saving import read_tensors, write_tensors

ARGUMENTS: dict[str, Any] = {
    "channels": [4, 8],
    "blocks": [1, 2],
    "strides": [1, 2],
    "exits": [0],
    "pool": True,
    "in_channels": 1,
    "size": 8,
    "classes": 3,
}


def fitted() -> Backbone:
    """A backbone of which no number is as a builder leaves it."""
    backbone = staged_resnet(**ARGUMENTS)
    rng = torch.Generator().manual_seed(0)
    for tensor in backbone.state_dict().values():
        tensor.uniform_(0.1, 1, generator=rng)
    return backbone


def images() -> torch.Tensor:
    return torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def rewritten(path: Path, **metadata: str) -> Path:
    tensors, before = read_tensors(path)
    write_tensors(path, tensors, before | metadata)
    return path


@contextmanager
def no_file_larger_than(size_bytes: int) -> Iterator[None]:
    """What a full disk does: writing starts well and then fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# Round trips ----------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", [{}, {"width": 0.5, "bits": 8}, {"run": 0, "bits": 4}])
def test_what_is_loaded_says_the_same(tmp_path: Path, setting: Mapping[str, float]) -> None:
    backbone = fitted()
    save(backbone, tmp_path / "a" / "b.safetensors")
    loaded = load(str(tmp_path / "a" / "b.safetensors"))
    assert not loaded.training
    assert loaded.call == backbone.call == Call("penstock.backbones:staged_resnet", ARGUMENTS)
    with torch.no_grad():
        assert torch.equal(loaded(images(), setting), backbone.eval()(images(), setting))


def test_builder_stands_in_the_metadata(tmp_path: Path) -> None:
    save(fitted(), tmp_path / "a.safetensors")
    _, metadata = read_tensors(tmp_path / "a.safetensors")
    assert metadata["builder"] == "penstock.backbones:staged_resnet"
    assert json.loads(metadata["arguments"]) == ARGUMENTS


def test_half_is_close_and_comes_back_as_float32(tmp_path: Path) -> None:
    backbone = resnet(14)
    for half in (False, True):
        save(backbone, tmp_path / f"{half}.safetensors", half=half)
    sizes = [(tmp_path / f"{half}.safetensors").stat().st_size for half in (False, True)]
    assert sizes[1] < 0.6 * sizes[0]
    loaded = load(tmp_path / "True.safetensors").state_dict()
    parameters = dict(backbone.named_parameters())
    for name, tensor in backbone.state_dict().items():
        assert loaded[name].dtype == torch.float32
        rounding = 2**-11 if name in parameters else 2**-8
        torch.testing.assert_close(loaded[name], tensor, atol=1e-7, rtol=rounding)


def test_half_keeps_statistics_that_float16_cannot_hold(tmp_path: Path) -> None:
    backbone = fitted()
    for layer in backbone.modules():
        if isinstance(layer, SettingNorm):
            layer.variance.fill_(1e6)
    backbone.state_dict()["blocks.0.first.steps"].fill_(1e-9)
    save(backbone, tmp_path / "a.safetensors", half=True)
    loaded = load(tmp_path / "a.safetensors").state_dict()
    for name, value in (("blocks.0.first.steps", 1e-9), ("blocks.0.first_norm.variance", 1e6)):
        torch.testing.assert_close(
            loaded[name], torch.full_like(loaded[name], value), atol=0, rtol=2**-8
        )


def test_saving_again_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save(tiny_resnet(), path)
    save(fitted(), path)
    assert load(path).classes == 3
    assert os.listdir(tmp_path) == ["a.safetensors"]


def test_file_can_be_read_by_whom_files_are_read_here(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    save(fitted(), tmp_path / "a.safetensors")
    modes = [(tmp_path / name).stat().st_mode for name in ("usual", "a.safetensors")]
    assert modes[0] == modes[1]


# Writing that fails ---------------------------------------------------------------------------


def test_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    path, backbone = tmp_path / "a.safetensors", fitted()
    save(backbone, path)
    before = path.read_bytes()
    with no_file_larger_than(len(before) // 2), pytest.raises(InputError, match="make room"):
        save(backbone, path)
    assert path.read_bytes() == before
    with no_file_larger_than(len(before) // 2), pytest.raises(InputError, match="make room"):
        save(backbone, tmp_path / "b.safetensors")
    assert os.listdir(tmp_path) == ["a.safetensors"]


def test_folder_in_the_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors" / "precious").mkdir(parents=True)
    with pytest.raises(InputError, match=r"a\.safetensors should be a file that can be written"):
        save(fitted(), tmp_path / "a.safetensors")
    assert os.listdir(tmp_path) == ["a.safetensors"]


def test_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    with pytest.raises(InputError, match="should be a file that can be written"):
        save(fitted(), tmp_path / "a" / "b.safetensors")
    assert (tmp_path / "a").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_folder_that_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="should be a file that can be written"):
        save(fitted(), tmp_path / "a.safetensors")
    assert os.listdir(tmp_path) == []


def test_backbone_without_a_call_cannot_be_saved(tmp_path: Path) -> None:
    backbone = tiny_resnet()
    backbone.call = None
    with pytest.raises(ValueError, match="saved with its Call, got None"):
        save(backbone, tmp_path / "a.safetensors")
    assert os.listdir(tmp_path) == []


# Files that cannot be used --------------------------------------------------------------------


def test_missing_file(tmp_path: Path) -> None:
    for path in (tmp_path / "no.safetensors", tmp_path):
        with pytest.raises(InputError, match=r"expected a safetensors file at .* check the path"):
            load(path)


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.999])
def test_file_that_is_cut_off(tmp_path: Path, share: float) -> None:
    path = tmp_path / "a.safetensors"
    save(fitted(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InputError, match=r"should be a whole safetensors file.*cut off or damaged"):
        load(path)


def test_file_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\x89PNG and so on, longer than any header's length")
    with pytest.raises(InputError, match="should be a whole safetensors file"):
        load(tmp_path / "a")


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("name", ["blocks.1.first.weight", "stem.norm.variance"])
def test_numbers_that_are_not_finite(tmp_path: Path, value: float, name: str) -> None:
    backbone = fitted()
    backbone.state_dict()[name].view(-1)[3] = value
    save(backbone, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=f"should be finite, {name} in .* holds NaN or infinity"):
        load(tmp_path / "a.safetensors")


def test_weights_of_another_shape(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save(fitted(), path)
    rewritten(path, arguments=json.dumps(ARGUMENTS | {"channels": [8, 8]}))
    with pytest.raises(InputError, match=r"not hold the weights of .*first that differs: stem\."):
        load(path)


@pytest.mark.parametrize("depth", [14, 20])
def test_weights_of_another_depth(tmp_path: Path, depth: int) -> None:
    path = tmp_path / "a.safetensors"
    save(resnet(14, 0.25), path)
    arguments = {"depth": depth, "width": 0.25}
    tensors, metadata = read_tensors(path)
    extra = {"more": torch.zeros(1)} if depth == 14 else {}
    write_tensors(path, tensors | extra, metadata | {"arguments": json.dumps(arguments)})
    with pytest.raises(InputError, match=r"does not hold the weights of .*first that differs"):
        load(path)


@pytest.mark.parametrize(
    "builder",
    [
        "os:system",
        "os.system",
        "my_lab.nets:fancy",
        "penstock.backbones_of_mine:resnet",
        "penstock.backbones:saving.os.system",
        "penstock.backbones",
        "penstock.backbones:",
        "",
    ],
)
def test_builder_that_is_not_trusted(tmp_path: Path, builder: str) -> None:
    path = tmp_path / "a.safetensors"
    save(fitted(), path)
    command = json.dumps({"command": f"touch {tmp_path}/run"})
    rewritten(path, builder=builder, arguments=command)
    with pytest.raises(InputError, match=r"only functions of penstock\.backbones are trusted here"):
        load(path)
    assert os.listdir(tmp_path) == ["a.safetensors"]


@pytest.mark.parametrize("name", ["cifar10", "digits"])
def test_what_ships_answers(name: str) -> None:
    backbone = shipped(name)
    with torch.no_grad():
        assert torch.isfinite(backbone(torch.rand(2, *backbone.shape))).all()


def test_module_can_be_trusted(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save(fitted(), path)
    rewritten(path, builder="penstock.backbones.resnet:staged_resnet")
    with pytest.raises(InputError, match="name that module as trusted if it is yours"):
        load(path)
    assert load(path, trusted=("penstock.backbones.resnet",)).classes == 3


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "should name its builder and arguments in the metadata, got {}"),
        ({"builder": "penstock.backbones:resnet"}, "should name its builder and arguments"),
        ({"builder": "penstock.backbones:resnet", "arguments": "{"}, "should name its builder"),
        ({"builder": "penstock.backbones:resnet", "arguments": "[8]"}, r"JSON object, got \[8\]"),
    ],
)
def test_metadata_that_is_missing(
    tmp_path: Path, metadata: dict[str, str] | None, message: str
) -> None:
    save_file(fitted().state_dict(), tmp_path / "a.safetensors", metadata=metadata)
    with pytest.raises(InputError, match=message):
        load(tmp_path / "a.safetensors")


# Builders -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (Call("penstock.backbones:resnett", {}), "check the spelling and that the module can be"),
        (Call("no_such_module:resnet", {}), 'named "module:function", got \'no_such_module'),
        (Call("not a name", {}), "named \"module:function\", got 'not a name'"),
        (Call("penstock.backbones:resnet", {"layers": 8}), "does not take {'layers': 8}"),
        (Call("penstock.backbones:resnet", {"depth": "deep"}), "does not take {'depth': 'deep'}"),
        (Call("penstock.backbones:resnet", {"depth": 9}), r"8, 14, 20, \.\.\. 110"),
        (Call("builtins:dict", {"a": 1}), "should return a Backbone, got dict"),
    ],
)
def test_call_that_builds_nothing(call: Call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(call)


def test_name_that_does_not_ship() -> None:
    with pytest.raises(InputError, match="no backbone named 'imagenet' ships here"):
        shipped("imagenet")


def test_what_ships_can_be_loaded() -> None:
    folder = Path(__file__).parents[2] / "backbones" / "weights"
    for path in folder.glob("*.safetensors"):
        backbone = shipped(path.stem)
        assert backbone.call is not None
        logits = backbone(torch.rand(1, *backbone.shape))
        assert torch.isfinite(logits).all()
        assert len(load_file(path)) == len(backbone.state_dict())
