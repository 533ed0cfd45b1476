"""The command line: its options, inputs, results and reports."""

INTERRUPTED = 130
"""The exit status after Ctrl-C, as shells count it."""
