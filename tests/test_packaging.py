"""What is installed is what is here."""

import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PYPROJECT["tool"]["setuptools"]


def test_every_folder_with_code_is_packaged() -> None:
    mapped = SETUPTOOLS["package-dir"]
    assert sorted(mapped) == sorted(SETUPTOOLS["packages"])
    code = {path for folder in mapped.values() for path in (ROOT / folder).rglob("*.py")}
    assert {path.parent.relative_to(ROOT).as_posix() for path in code} == set(mapped.values())


def test_every_data_file_is_packaged() -> None:
    here, shipped = set(), set()
    for name, folder in SETUPTOOLS["package-dir"].items():
        files = {path for path in (ROOT / folder).rglob("*") if path.is_file()}
        here |= {path for path in files if path.suffix not in {".py", ".pyc"}}
        patterns = SETUPTOOLS["package-data"]
        for pattern in patterns["*"] + patterns.get(name, []):
            shipped |= set((ROOT / folder).glob(pattern))
        assert ROOT / folder / "py.typed" in shipped
    assert here <= shipped


def test_checkers_see_the_same_folders() -> None:
    for name, folder in SETUPTOOLS["package-dir"].items():
        assert (ROOT / "tests/.typing" / name.replace(".", "/")).resolve() == ROOT / folder
