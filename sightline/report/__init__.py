"""One self-contained page about a run."""

from sightline.report.build import Report, build

__all__ = ["Report", "build"]
