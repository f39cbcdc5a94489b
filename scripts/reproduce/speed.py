"""The ratios of `penstock bench` against their targets.

python scripts/reproduce/speed.py
"""

import sys

import tyro

from penstock.backbones import shipped
from penstock.hardware import build_machine
from penstock.scripts.bench import Arguments, bench, table
from penstock.scripts.comparisons import against_naive, random_case
from penstock.scripts.guard import guarded
from penstock.scripts.results import Claim, write_claims


def main() -> None:
    """Measure, write down."""
    arguments = tyro.cli(Arguments)
    figures = bench(arguments)
    print(table(figures))
    small = random_case(
        shipped("digits"),
        build_machine(arguments.machine),
        lanes=arguments.lanes,
        repeats=arguments.repeats,
        seed=arguments.seed,
    )
    naive = {arguments.backbone: figures, "digits": against_naive(small)}
    for name, each in naive.items():
        print(f"live_env_over_naive, {name} network: {each['live_env_over_naive']:.1f}")
    where = f"{figures['cpu']}, {figures['threads']} threads"

    def claim(text: str, figure: object, target: float, comparison: str, control: str) -> Claim:
        return Claim(
            text,
            float(figure),  # type: ignore[arg-type]
            target,
            comparison,  # type: ignore[arg-type]
            control,
            [arguments.seed],
            where,
        )

    def half(key: str) -> float:
        shares = figures[key]
        assert isinstance(shares, dict)
        return shares["0.5"]

    write_claims(
        "speed",
        [
            claim(
                "live environment over raw batched forward, full setting",
                figures["live_env_over_forward"],
                0.85,
                ">=",
                "raw batched forward",
            ),
            *(
                claim(
                    f"live environment over a naive environment, same decisions, {name} network",
                    each["live_env_over_naive"],
                    20,
                    ">=",
                    "per-image environment in DummyVecEnv",
                )
                for name, each in naive.items()
            ),
            claim(
                "grouped wall-clock share over MAC share, at 50 %",
                half("grouped_wall_share") / half("grouped_mac_share"),
                1.25,
                "<=",
                "full setting, grouped",
            ),
            claim(
                "masked wall-clock share, at 50 %",
                half("masked_wall_share"),
                0.8,
                ">=",
                "full setting, masked",
            ),
            claim(
                "largest difference of logits, grouped against masked",
                figures["max_logit_difference"],
                1e-4,
                "<=",
                "masked",
            ),
            claim(
                "analog multipliers over approximate DRAM, images per second",
                figures["erring_over_exact"],
                0.5,
                ">=",
                "the same machine without either",
            ),
            claim("import penstock.envs, s", figures["import_s"], 2.0, "<=", "none"),
            claim("penstock list, s", figures["list_s"], 1.0, "<=", "none"),
        ],
    )


if __name__ == "__main__":
    sys.exit(guarded(main))
