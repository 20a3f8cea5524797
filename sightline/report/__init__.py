"""One self-contained page about a run: `build.build(run)` writes it."""
