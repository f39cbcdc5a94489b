import doctest
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pytest
import torch
from PIL import Image
from pyarrow import parquet
from torch import Tensor

from penstock.backbones import data, errors
from penstock.backbones.data import Data, Images, load_data
from penstock.backbones.errors import InputError

REAL = os.environ.get("PENSTOCK_DATA", "")
needs_real_data = pytest.mark.skipif(
    not REAL, reason="set PENSTOCK_DATA to a folder that holds cifar10/ and mnist/ as parquet"
)
HUB_TYPES: dict[str, Any] = {
    "look": {"_type": "Image"},
    "kind": {"_type": "ClassLabel", "names": ["cat", "dog"]},
}


def picture(
    value: int, mode: str = "L", size: tuple[int, int] = (4, 4), file: str = "png"
) -> bytes:
    """A file's bytes: an image of one colour."""
    encoded = io.BytesIO()
    Image.new(mode, size, value).save(encoded, file)
    return encoded.getvalue()


def write(path: Path, hub_types: dict[str, Any] | None = None, **columns: Any) -> str:
    table = pa.table(columns)
    if hub_types is not None:
        info = json.dumps({"info": {"features": hub_types}})
        table = table.replace_schema_metadata({"huggingface": info})
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path)
    return str(path)


def cells(greys: Sequence[int]) -> list[dict[str, Any]]:
    """Images of these greys as the hub stores them."""
    return [{"bytes": picture(grey), "path": None} for grey in greys]


def rows(loaded: Data) -> list[tuple[int, ...]]:
    """Label and pixels of every image, in an order of their own."""
    splits = (loaded.train, loaded.validation, loaded.test)
    return sorted((int(y), *map(int, x.flatten())) for i in splits for x, y in zip_images(i))


def zip_images(images: Images) -> list[tuple[Tensor, Tensor]]:
    return list(zip(images.pixels, images.labels, strict=True))


def values(x: Tensor) -> set[int]:
    return set(x.flatten().tolist())


def test_documented_examples_run() -> None:
    for module in (errors, data):
        assert doctest.testmod(module).failed == 0


def test_did_you_mean() -> None:
    assert errors.did_you_mean("x", []) == ""
    assert errors.did_you_mean("runn", {"run", "bits"}) == " Did you mean 'run'? Known: bits, run."


# The built-in digits --------------------------------------------------------------------------


def test_digits_are_split_without_loss_or_overlap() -> None:
    from sklearn.datasets import load_digits

    loaded = load_data("digits")
    original = load_digits()
    scaled = (original.data * 255 / 16).round().astype(int)
    assert rows(loaded) == sorted(
        (y, *x) for x, y in zip(scaled.tolist(), original.target.tolist(), strict=True)
    )
    assert len(loaded.test) == 359 and loaded.test.labels.bincount().min() > 20
    assert loaded.train.classes == tuple("0123456789")


def test_seed_picks_the_digits_of_every_split() -> None:
    first, again, other = load_data("digits"), load_data("digits"), load_data("digits", seed=1)
    for split in ("train", "validation", "test"):
        assert torch.equal(getattr(first, split).pixels, getattr(again, split).pixels)
    assert not torch.equal(first.test.pixels, other.test.pixels)
    assert not torch.equal(first.validation.pixels, other.validation.pixels)
    assert rows(first) == rows(other)


def test_digits_take_any_size_and_channels() -> None:
    wide = load_data("digits", size=32, channels=3, validation_share=0.5)
    assert wide.train.shape == (3, 32, 32)
    assert (len(wide.train), len(wide.validation), len(wide.test)) == (719, 719, 359)
    assert torch.equal(wide.test.pixels[:, 0], wide.test.pixels[:, 2])


# Images ---------------------------------------------------------------------------------------


def test_take_keeps_the_order_asked_for() -> None:
    images = Images(
        torch.arange(3, dtype=torch.uint8).view(3, 1, 1, 1), torch.tensor([0, 1, 1]), ("a", "b")
    )
    assert images.take([2, 0]).pixels.flatten().tolist() == [2, 0]
    assert images.take(images.labels == 1).pixels.flatten().tolist() == [1, 2]
    assert len(images.take([])) == 0
    assert images.shape == (1, 1, 1)


@pytest.mark.parametrize(
    ("pixels", "labels", "message"),
    [
        (torch.zeros(2, 4, 4, dtype=torch.uint8), torch.zeros(2).long(), r"\[N, C, H, W\]"),
        (torch.zeros(2, 1, 4, 4), torch.zeros(2).long(), "float32"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(3).long(), r"of shape \[2\]"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(2), "int64"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 2]), r"0\.\.1 .* 0\.\.2"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([-1, 1]), r"-1\.\.1"),
    ],
)
def test_unfit_tensors_are_refused(pixels: Tensor, labels: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Images(pixels, labels, ("cat", "dog"))


# Parquet --------------------------------------------------------------------------------------


def test_columns_are_found_by_the_hubs_types(tmp_path: Path) -> None:
    name = write(
        tmp_path / "any.parquet",
        HUB_TYPES | {"gone": {"_type": "Image"}, "size": [{"_type": "Value"}]},
        sound=[{"bytes": b"RIFF", "path": None}] * 20,
        size=list(range(20)),
        kind=[0, 1] * 10,
        look=cells(range(20)),
    )
    loaded = load_data(name)
    assert [len(loaded.train), len(loaded.validation), len(loaded.test)] == [14, 2, 4]
    assert loaded.train.classes == ("cat", "dog")
    assert rows(loaded) == sorted((value % 2, *[value] * 16) for value in range(20))


@pytest.mark.parametrize(
    "kind", [pa.binary(), pa.large_binary(), pa.struct({"bytes": pa.binary()})]
)
@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (pa.array([7, 3] * 5, pa.uint8()), ("3", "7")),
        (pa.array(["dog", "cat"] * 5), ("cat", "dog")),
        (pa.array(["dog", "cat"] * 5).dictionary_encode(), ("cat", "dog")),
    ],
)
def test_columns_are_found_by_plain_types(
    tmp_path: Path, kind: Any, labels: Any, classes: tuple[str, ...]
) -> None:
    encoded: list[Any] = [picture(value) for value in range(10)]
    if pa.types.is_struct(kind):
        encoded = [{"bytes": one} for one in encoded]
    else:
        encoded[0] = picture(0, file="bmp")
    name = write(
        tmp_path / "a.parquet",
        x=pa.array(encoded, kind),
        notes=pa.array([b"no image"] * 10),
        tags=pa.array([["a", "b"]] * 10),
        y=labels,
    )
    loaded = load_data(name, validation_share=0.25)
    assert loaded.train.classes == classes
    assert rows(loaded) == sorted(((value + 1) % 2, *[value] * 16) for value in range(10))


@pytest.mark.parametrize(
    ("train", "test"),
    [
        (["train.parquet"], ["test.parquet"]),
        (
            ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"],
            ["val.parquet"],
        ),
        (["a=1/training/0.parquet", "a=1/training/1.parquet"], ["a=1/validation/0.parquet"]),
        (["0.parquet"], ["x/Test/0.parquet"]),
    ],
)
def test_folder_of_parquet_files(tmp_path: Path, train: list[str], test: list[str]) -> None:
    for place, file in enumerate(train):
        write(tmp_path / file, look=cells(range(10)), kind=[0, place + 1] * 5)
    for file in test:
        write(tmp_path / file, look=cells([99]), kind=[1])
    write(tmp_path / "ignored" / "val2.parquet", look=cells([5] * 3), kind=[1] * 3)
    loaded = load_data(str(tmp_path))
    assert len(loaded.train) + len(loaded.validation) == 10 * len(train)
    assert loaded.train.classes == tuple("012"[: len(train) + 1])
    assert 99 in loaded.test.pixels and 99 not in loaded.train.pixels


def test_hub_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    from datasets.packaged_modules.parquet.parquet import Parquet

    files = {
        split: [write(tmp_path / split, HUB_TYPES, look=cells(range(count)), kind=[0, 1] * half)]
        for split, count, half in (("train", 20, 10), ("test", 4, 2))
    }
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    # what a first download of a data set called pets leaves in the hub's cache
    cached = Parquet(str(tmp_path / "cache"), "pets", "default", "0" * 16, data_files=files)
    cached.download_and_prepare()
    configuration = Path(cached.cache_dir).parents[1]
    configuration.rename(configuration.with_name("default"))

    loaded = load_data("pets")
    assert (len(loaded.train), len(loaded.validation), len(loaded.test)) == (18, 2, 4)
    assert loaded.train.classes == ("cat", "dog")
    assert sorted(loaded.test.pixels[:, 0, 0, 0].tolist()) == [0, 1, 2, 3]
    with pytest.raises(InputError, match="hub did not give"):
        load_data("nobody/has-this")


# Image folders and decoding -------------------------------------------------------------------


def write_folder(folder: Path, classes: Sequence[str], count: int, **how: Any) -> None:
    for place, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for value in range(count):
            (folder / name / f"{value}.PNG").write_bytes(picture(10 * place + value, **how))


def test_image_folder(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", ["dog", "cat", "train"], 5)
    write_folder(tmp_path / "test", ["dog"], 2)
    (tmp_path / "train" / "cat" / "readme.txt").write_text("not an image")
    (tmp_path / "train" / ".hidden").mkdir()
    loaded = load_data(str(tmp_path), validation_share=0.2)
    assert (len(loaded.train), len(loaded.validation), len(loaded.test)) == (12, 3, 2)
    assert loaded.test.classes == ("cat", "dog", "train")
    assert loaded.test.labels.tolist() == [1, 1]
    alone = load_data(str(tmp_path / "train"), validation_share=0.2)
    assert alone.train.classes == ("cat", "dog", "train")
    assert rows(alone) == sorted(
        (label, *[10 * place + value] * 16)
        for place, label in enumerate((1, 0, 2))
        for value in range(5)
    )


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_grey_stays_grey_and_all_else_becomes_rgb(tmp_path: Path, mode: str) -> None:
    write_folder(tmp_path, ["a"], 10, mode=mode)
    channels = 1 if mode in ("1", "L", "LA") else 3
    assert load_data(str(tmp_path)).train.shape == (channels, 4, 4)


def test_colour_turns_grey_by_luma_and_grey_turns_colour_by_copying(tmp_path: Path) -> None:
    encoded = io.BytesIO()
    Image.new("RGB", (4, 4), (200, 100, 50)).save(encoded, "png")
    name = write(tmp_path / "a.parquet", x=[encoded.getvalue()] * 10, y=[0, 1] * 5)
    # 0.299 * 200 + 0.587 * 100 + 0.114 * 50 = 59.8 + 58.7 + 5.7 = 124.2
    assert values(load_data(name, channels=1).train.pixels) == {124}
    assert load_data(name).train.pixels[0, :, 0, 0].tolist() == [200, 100, 50]
    assert torch.equal(load_data(name, channels=3).test.pixels, load_data(name).test.pixels)
    grey = write(tmp_path / "b.parquet", x=[picture(9)] * 10, y=[0, 1] * 5)
    assert values(load_data(grey, channels=3).train.pixels) == {9}


def test_only_images_of_another_size_are_resized(tmp_path: Path) -> None:
    board = Image.new("L", (4, 4))
    board.putdata([255 * ((place + place // 4) % 2) for place in range(16)])
    encoded = [io.BytesIO() for _ in range(2)]
    board.save(encoded[0], "png")
    board.resize((8, 8), Image.Resampling.NEAREST).save(encoded[1], "png")
    name = write(tmp_path / "a.parquet", x=[e.getvalue() for e in encoded] * 10, y=[0, 1] * 10)
    with pytest.raises(
        InputError, match=r"\[1, 8, 8\] in row 1 of .* after \[1, 4, 4\]; give size"
    ):
        load_data(name)
    loaded = load_data(name, size=4)
    same = {int(label): x for x, label in zip_images(loaded.train)}
    assert values(same[0]) == {0, 255}
    # a triangle over two to four of the eight pixels blurs the board instead of picking from it
    assert 0 < int(same[1].min()) and int(same[1].max()) < 255
    assert load_data(name, size=3).train.shape == (1, 3, 3)


def test_batches_keep_the_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "BATCH_BYTES", 50)  # three images of 4x4
    sizes = [(4, 4)] * 7 + [(8, 8), (4, 4)] * 4
    encoded = [picture(value, size=size) for value, size in enumerate(sizes)]
    name = write(tmp_path / "a.parquet", x=encoded, y=[f"{v:02}" for v in range(len(sizes))])
    loaded = load_data(name, size=4)
    assert rows(loaded) == [(value, *[value] * 16) for value in range(len(sizes))]


def test_photographs_stand_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees
    encoded = io.BytesIO()
    Image.new("L", (6, 4)).save(encoded, "jpeg", exif=exif)
    name = write(tmp_path / "a.parquet", x=[encoded.getvalue()] * 10, y=[0, 1] * 5)
    assert load_data(name).train.shape == (1, 6, 4)


# What cannot be used --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "size must be at least 1"),
        ({"channels": 2}, r"1 \(grey\) or 3 \(RGB\), got 2"),
        ({"validation_share": 0.0}, "between 0 and 1, got 0.0"),
        ({"validation_share": 1e-9}, "must leave some on both sides, got 0"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_data("digits", **arguments)


@pytest.mark.parametrize("name", ["", "no/such/folder", "/no/such", "./no", "no.parquet"])
def test_nothing_there(name: str) -> None:
    with pytest.raises(InputError, match=r"folder.*parquet.*hub.*'digits', got .* check the path"):
        load_data(name)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x": [b"no image"], "y": [0]}, r"one column of images, got none among x \(binary\), y"),
        ({"x": [picture(0)], "z": [picture(0)], "y": [0]}, "one column of images, got x, z among"),
        ({"x": [picture(0)]}, r"one column of labels, got none among x \(binary\)"),
        ({"x": [picture(0)], "y": [0.5]}, r"labels, got none among .*y \(double\)"),
        ({"x": [picture(0)], "y": [0], "z": [1]}, "one column of labels, got y, z among"),
        ({"x": [picture(0)] * 2, "y": [0, None]}, "in each row of column y, got None"),
        ({"x": pa.array([], pa.binary()), "y": pa.array([], pa.int64())}, "got 0 rows"),
        ({"x": [picture(0), None], "y": [0, 1]}, "row 1 of .* got nothing"),
        ({"x": [picture(0), b"no"], "y": [0, 1]}, "row 1 of .* got no format it knows"),
        ({"x": [picture(0), picture(0)[:45]], "y": [0, 1]}, "row 1 of .* Pillow can decode, got"),
        ({"x": [picture(0, "I;16")], "y": [0]}, "row 0 of .* 8 bits .* got mode I;16"),
        ({"x": [picture(0), picture(0, "RGB")], "y": [0, 1]}, r"\[3, 4, 4\] in row 1 .* channels"),
        ({"x": [picture(0)], "y": [0]}, "a share of 0.2 of 1 images"),
    ],
)
def test_unfit_parquet(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_data(write(tmp_path / "a.parquet", **columns))


def test_labels_that_the_hubs_type_does_not_name(tmp_path: Path) -> None:
    name = write(tmp_path / "a.parquet", HUB_TYPES, look=cells([1, 2]), kind=[1, -1])
    with pytest.raises(InputError, match="one of 2 classes in each row of column kind, got -1"):
        load_data(name)


def test_damaged_parquet(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(InputError, match=r"a\.parquet must be a whole parquet file"):
        load_data(str(tmp_path / "a.parquet"))
    write(tmp_path / "b" / "train-0.parquet", x=[picture(0)], y=[0])
    write(tmp_path / "b" / "train-1.parquet", image=[picture(0)], y=[0])
    with pytest.raises(InputError, match=r"train-1\.parquet must .* columns of those beside it"):
        load_data(str(tmp_path / "b"))


def test_splits_that_do_not_belong_together(tmp_path: Path) -> None:
    write(tmp_path / "test.parquet", x=[picture(0)], y=["bird"])
    with pytest.raises(InputError, match="must hold training images, got only a test split"):
        load_data(str(tmp_path))
    write(tmp_path / "train.parquet", x=[picture(0)] * 10, y=["cat", "dog"] * 5)
    with pytest.raises(InputError, match="got also bird beside cat, dog"):
        load_data(str(tmp_path))
    write(tmp_path / "test.parquet", x=[picture(0, "RGB")], y=["dog"])
    with pytest.raises(InputError, match=r"shape \(1, 4, 4\) as for training, got \(3, 4, 4\)"):
        load_data(str(tmp_path))


def test_folder_without_images(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="got neither; lay images out as <class>/<name>"):
        load_data(str(tmp_path))
    write_folder(tmp_path, ["cat"], 3)
    (tmp_path / "cat" / "1.PNG").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"cat/1\.PNG must hold an image"):
        load_data(str(tmp_path))


# Real data ------------------------------------------------------------------------------------


@needs_real_data
def test_cifar10() -> None:
    loaded = load_data(f"{REAL}/cifar10")
    assert (len(loaded.train), len(loaded.validation), len(loaded.test)) == (45000, 5000, 5000)
    assert len(loaded.train.classes) == 10 and loaded.train.classes[3] == "cat"
    assert loaded.train.shape == (3, 32, 32)
    assert values(loaded.train.labels) == set(range(10))


@needs_real_data
def test_mnist() -> None:
    loaded = load_data(f"{REAL}/mnist")
    assert (len(loaded.train), len(loaded.validation), len(loaded.test)) == (54000, 6000, 5000)
    assert loaded.train.shape == (1, 28, 28)
