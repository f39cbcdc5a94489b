"""Draw docs/results.md from docs/results/*.json: `make results`."""

from pathlib import Path

from penstock.scripts.results import draw

if __name__ == "__main__":
    Path("docs/results.md").write_text(draw())
    print("docs/results.md")
