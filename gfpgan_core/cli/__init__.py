"""The command line: what is restored, where results go, and what is said about each."""
