"""Files that are made to break what reads them, by code."""
