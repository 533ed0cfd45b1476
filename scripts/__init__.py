"""Command lines beside the package: `python -m scripts.NAME`."""
