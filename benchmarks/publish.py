"""Show a report in the documentation: ``python -m benchmarks.publish benchmarks/results/<machine-and-date>.md``.

What stands in docs/benchmarks.md below its mark is replaced by the report's text, and its pictures are moved to
docs/benchmarks/. No figure is written into that page by hand.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"
MARK = "<!-- Below: written by benchmarks/publish.py -->\n"


def publish(report: Path, docs: Path = DOCS) -> None:
    """Put the report below the mark."""
    page, pictures = docs / "benchmarks.md", docs / "benchmarks"
    head, mark, _ = page.read_text("utf-8").partition(MARK)
    if not mark:
        raise ValueError(f"{page} has no line {MARK.strip()}")
    shutil.rmtree(pictures, ignore_errors=True)
    shutil.move(report.with_suffix(""), pictures)
    _, _, text = report.read_text("utf-8").partition("\n")
    text = text.replace(f"({report.stem}/", "(benchmarks/")
    page.write_text(f"{head}{mark}\n## The run of {report.stem}\n{text}", "utf-8")
    report.unlink()


if __name__ == "__main__":
    publish(Path(sys.argv[1]))
