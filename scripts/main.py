"""The console command `penstock`; each subcommand is a file that is imported when it is called."""

import sys
from importlib import import_module

COMMANDS = {
    "train": "fit a backbone if need be, learn a policy, judge it",
    "evaluate": "the table of a policy, or of an experiment's baselines, at a budget",
    "frontier": "accuracy against cost as a picture",
    "list": "experiments, machines and backbones that ship with Penstock",
    "check": "hold a machine against the rules that every machine keeps",
    "characterise": "the bit errors that a network bears, and the DRAM voltages for it",
    "serve": "host the far half of a split network, or probe the link to one",
    "profile": "seconds of every part of a network on this processor, for measured machines",
    "bench": "speeds as ratios, measured side by side",
}


def main() -> None:
    """Run a subcommand; bad input ends in one sentence and exit status 2."""
    name, *rest = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(usage())
        return
    if name not in COMMANDS:
        print(f"penstock: there is no command {name!r}\n\n{usage()}", file=sys.stderr)
        sys.exit(2)
    if name == "list":
        # Apart from the others, because it answers at once: no torch is imported.
        import_module("penstock.scripts.list").show()
        return
    sys.path.append(".")
    sys.exit(import_module("penstock.scripts.guard").call(name, rest))


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
