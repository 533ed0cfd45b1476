"""The command line: its options, inputs, results and reports."""
