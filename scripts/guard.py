"""Where a command meets a person: arguments read, mistakes answered in one sentence."""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module

import tyro

from penstock.backbones import InputError


def call(name: str, arguments: Sequence[str]) -> int:
    """Run a command's `run(Arguments)`.

    Returns:
        The exit status: 0, 2 for input that cannot be used, 130 when interrupted.
    """
    module = import_module(f"penstock.scripts.{name}")
    options = tyro.cli(module.Arguments, args=list(arguments), prog=f"penstock {name}")
    return guarded(partial(module.run, options))


def guarded(task: Callable[[], object]) -> int:
    """Run something.

    Returns:
        The exit status: 0, 2 for input that cannot be used, 130 when interrupted.
    """
    try:
        task()
    except InputError as error:
        print(f"penstock: {error}", file=sys.stderr)
        return 2
    except PermissionError as error:
        print(
            f"penstock: {error.filename} cannot be read or written ({error.strerror}); "
            "change its permissions or choose another place",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("penstock: interrupted; train goes on with --resume", file=sys.stderr)
        return 130
    return 0
