"""Labelled images found in parquet files, image folders and on the Hugging Face hub.

- a parquet file: the training images.
- a folder of parquet files: `train*.parquet` and `test*.parquet`, or in sub-folders named so.
- a folder of image files: `train/<class>/*` and `test/<class>/*`, or `<class>/*` alone.
- the name of a data set on the hub, such as `ylecun/mnist`, which is kept in the hub's own cache.

`val*` stands in for `test*` where there is none. A table's images and labels are found by the
columns' types: the image is the hub's `Image`, else encoded images as `binary` or as a struct with
`bytes`; the label is the hub's `ClassLabel`, else the one column of integers, else that of strings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from penstock.backbones.errors import InputError

PICTURES = frozenset({"bmp", "gif", "jpeg", "jpg", "pgm", "png", "ppm", "tif", "tiff", "webp"})
"""How the names of image files end; an image folder's other files are passed over."""

_Part = TypeVar("_Part")


@dataclass(frozen=True, slots=True)
class Encoded:
    """Images as they lie in files, with their labels; to be gone through once."""

    source: str
    """What to call it in an error."""
    images: Iterable[BytesIO | Path | None]  # N, to be opened; None where there is none
    labels: Sequence[int | str]  # N keys of classes
    classes: Mapping[int | str, str]
    """What stands for a class in the labels -> the class's name, in the classes' order."""


def find(name: str) -> tuple[Encoded, Encoded | None]:
    """The training images called this and, where there are any, the test images.

    Args:
        name: a path or, where nothing lies there, the name of a data set on the hub.

    Raises:
        InputError: if nothing is found, or what is found is not labelled images. Nothing is
            decoded yet: a damaged image is found when it is.
    """
    path = Path(name).expanduser()
    if name and path.is_file():
        train, test = _rows(_table([path]), name), None
    elif name and path.is_dir():
        files = sorted(path.rglob("*.parquet"))
        train, test = _parquet_folder(path, files) if files else _image_folder(path)
    else:
        train, test = _on_hub(name)
    if test and (strange := dict(test.classes.items() - train.classes.items())):
        raise InputError(
            f"{test.source} must have the classes of the training images in their order, got also "
            f"{', '.join(sorted(strange.values()))} beside {', '.join(train.classes.values())}; "
            "leave these images out or rename their classes"
        )
    return train, test


def _parquet_folder(folder: Path, files: Sequence[Path]) -> tuple[Encoded, Encoded | None]:
    named = [(file.relative_to(folder).parts, file) for file in files]
    return _splits(named, str(folder), lambda parts, source: _rows(_table(parts), source))


def _image_folder(folder: Path) -> tuple[Encoded, Encoded | None]:
    named = [([part.name], part) for part in _folders(folder)]
    # a folder of images is a class, be it called train
    splits = [(words, part) for words, part in named if _split_of(words) and _folders(part)]
    if splits:
        return _splits(splits, str(folder), _classes)
    return _classes([folder], str(folder)), None


def _on_hub(name: str) -> tuple[Encoded, Encoded | None]:
    expected = (
        "data must be a folder, a parquet file, the name of a data set on the hub or the built-in "
        f"'digits', got {name!r}, where no file or folder lies"
    )
    if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name) or name.endswith(".parquet"):
        raise InputError(f"{expected}; check the path")

    import datasets
    import pyarrow as pa  # type: ignore[import-untyped]

    try:
        found = datasets.load_dataset(name)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"{expected} and which the hub did not give ({reason}); check the name, or download "
            "it and give the folder"
        ) from error
    named = [([split], rows.with_format("arrow")[:]) for split, rows in found.items()]
    return _splits(named, name, lambda parts, source: _rows(pa.concat_tables(parts), source))


def _split_of(words: Sequence[str]) -> str:
    """The split that a path's parts name, the last part first; empty if none does."""
    splits = ("train", "test", "val")
    return next((s for word in reversed(words) for s in splits if word.lower().startswith(s)), "")


def _splits(
    named: Iterable[tuple[Sequence[str], _Part]],
    source: str,
    read: Callable[[list[_Part], str], Encoded],
) -> tuple[Encoded, Encoded | None]:
    """The training and the test images of what is named so; what names no split is training."""
    parts: dict[str, list[_Part]] = {"train": [], "test": [], "val": [], "": []}
    for words, part in named:
        parts[_split_of(words)].append(part)
    train, test = parts["train"] or parts[""], parts["test"] or parts["val"]
    if not train:
        raise InputError(
            f"{source} must hold training images, got only a test split; name a file or folder "
            "in it train*"
        )
    return (
        read(train, f"the training split of {source}"),
        read(test, f"the test split of {source}") if test else None,
    )


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _classes(folders: Sequence[Path], source: str) -> Encoded:
    """The image files of these folders, each below a sub-folder named as its class."""
    found = [
        (file, part.name)
        for folder in folders
        for part in _folders(folder)
        for file in sorted(part.rglob("[!.]*.*"))
        if file.suffix[1:].lower() in PICTURES
    ]
    if not found:
        raise InputError(
            f"{source} must hold parquet files, or image files in a sub-folder a class, got "
            f"neither; lay images out as <class>/<name>.png (or {', '.join(sorted(PICTURES))})"
        )
    files, labels = zip(*found, strict=True)
    return Encoded(source, files, labels, {name: name for name in sorted(set(labels))})


def _table(files: Sequence[Path]) -> Any:
    """A pyarrow table of the rows of all these parquet files."""
    import pyarrow as pa
    from pyarrow import parquet

    tables = []
    for path in files:
        try:
            with parquet.ParquetFile(path) as file:
                tables.append(file.read())
            table = pa.concat_tables(tables)
        except (OSError, pa.ArrowException) as error:
            raise InputError(
                f"{path} must be a whole parquet file with the columns of those beside it, got "
                "something that cannot be read as one; copy or download it again"
            ) from error
    return table


def _rows(table: Any, source: str) -> Encoded:
    """A pyarrow table's images and labels, from the columns whose types say that they are."""
    from pyarrow import types

    if table.num_rows == 0:
        raise InputError(f"{source} must hold images, got 0 rows; give one that is not empty")
    hub = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
    features = {
        name: feature
        for name, feature in hub.get("info", {}).get("features", {}).items()
        if isinstance(feature, dict)  # a list of columns is a list here
    }
    kinds = {field.name: field.type for field in table.schema}

    def declared(kind: str) -> list[str]:
        return [name for name in kinds if features.get(name, {}).get("_type") == kind]

    def only(names: Sequence[str], what: str) -> str:
        if len(names) == 1:
            return names[0]
        raise InputError(
            f"{source} must have exactly one column of {what}, got {', '.join(names) or 'none'} "
            f"among {', '.join(f'{name} ({kind})' for name, kind in kinds.items())}; write a "
            "parquet file with one column of images and one of labels"
        )

    encoded = [name for name, kind in kinds.items() if _holds_bytes(kind)]
    image = only(declared("Image") or [n for n in encoded if _any_opens(table[n])], "images")
    integers = [name for name, kind in kinds.items() if types.is_integer(kind)]
    strings = [name for name, kind in kinds.items() if _is_text(kind)]
    label = only(declared("ClassLabel") or integers or strings, "labels")
    labels = table[label].to_pylist()
    names = features.get(label, {}).get("names") or ()
    classes: dict[int | str, str] = dict(enumerate(names))
    classes = classes or {value: str(value) for value in sorted(set(labels) - {None})}
    if strange := set(labels) - classes.keys():
        raise InputError(
            f"{source} must have one of {len(classes)} classes in each row of column {label}, got "
            f"{strange.pop()}; leave such rows out"
        )
    return Encoded(source, map(_image, table[image]), labels, classes)


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    return bool(types.is_string(kind) or types.is_large_string(kind))


def _holds_bytes(kind: Any) -> bool:
    from pyarrow import types

    if types.is_struct(kind):
        return any(field.name == "bytes" and _holds_bytes(field.type) for field in kind)
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _image(cell: Any) -> BytesIO | Path | None:
    """What a table's cell holds of an image, as plain bytes or in the hub's way."""
    value = cell.as_py()
    if isinstance(value, dict):
        path = value.get("path")
        value = value.get("bytes") or (Path(path) if path else None)
    return BytesIO(value) if isinstance(value, bytes) else value


def _any_opens(column: Any) -> bool:
    """Whether one of the first cells is an image: not each has to be, one may be damaged."""
    from PIL import Image

    for cell in islice(column, 8):
        try:
            with Image.open(_image(cell) or BytesIO()):
                return True
        except (OSError, Image.DecompressionBombError):
            continue
    return False
