"""The console command `penstock`; each subcommand is a file that is imported when it is called."""

import os
import signal
import sys
from importlib import import_module

COMMANDS = {
    "train": "fit a backbone if need be, learn a policy, judge it",
    "evaluate": "the table of a policy, or of an experiment's baselines, at a budget",
    "record": "run every input under every decision once, and keep what became of it",
    "verify": "replay decisions live and compare them with what was recorded",
    "frontier": "accuracy against cost as a picture",
    "report": "a run as one page of HTML: setting, frontier, table, decisions, prices",
    "list": "experiments, machines and backbones that ship with Penstock",
    "check": "hold a machine against the rules that every machine keeps",
    "sweep": "accuracy and cost at every choice of a machine's knobs",
    "characterise": "the bit errors that a network bears, and the DRAM voltages for it",
    "protect": "store the top bit of 8-bit numbers three times, against flipped bits",
    "serve": "host the far half of a split network, or probe the link to one",
    "profile": "seconds of every part of a network on this processor, for measured machines",
    "bench": "speeds as ratios, measured side by side",
}


def main() -> None:
    """Run a subcommand; bad input ends in one sentence and exit status 2."""
    try:
        status = run(*(sys.argv[1:] or ["--help"]))
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read has gone, as in `penstock list | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 128 + signal.SIGPIPE
    sys.exit(status)


def run(name: str, *rest: str) -> int:
    """Run a subcommand by its name, and say its exit status."""
    if name in ("-h", "--help"):
        print(usage())
        return 0
    if name not in COMMANDS:
        print(f"penstock: there is no command {name!r}\n\n{usage()}", file=sys.stderr)
        return 2
    if name == "list":
        # Apart from the others, because it answers at once: no torch is imported.
        import_module("penstock.scripts.list").show()
        return 0
    sys.path.append(".")
    status: int = import_module("penstock.scripts.guard").call(name, rest)
    return status


def usage() -> str:
    """The help text."""
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name:{width}}  {about}" for name, about in COMMANDS.items())
    return (
        "usage: penstock COMMAND [options]\n\n"
        "Decide, for each input, how much of a neural network to run.\n\n"
        f"{lines}\n\npenstock COMMAND --help tells more."
    )


if __name__ == "__main__":
    main()
