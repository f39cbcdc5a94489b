"""`penstock list`: what ships with Penstock, read from its files without importing any of it."""

import tomllib
from importlib.util import find_spec
from pathlib import Path


def show() -> None:
    """Print experiments, machines and backbones."""
    shipped = (
        ("experiments", "penstock.scripts", "experiments/*.toml", "penstock train NAME"),
        ("machines", "penstock.hardware", "presets/*.toml", "--machine NAME"),
        ("backbones", "penstock.backbones", "weights/*.safetensors", 'weights = "NAME"'),
    )
    for title, package, pattern, use in shipped:
        print(f"{title} ({use})")
        for path in sorted(folder(package).glob(pattern)):
            print(f"  {path.stem:26} {about(path)}".rstrip())


def folder(package: str) -> Path:
    """Where a package lies; finding it does not run it."""
    spec = find_spec(package)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent


def about(path: Path) -> str:
    """The title, or the first line of comment, of a TOML file."""
    if path.suffix != ".toml":
        return ""
    text = path.read_text()
    title = str(tomllib.loads(text).get("title", ""))
    first = text.partition("\n")[0]
    return title or (first.lstrip("# ") if first.startswith("#") else "")
