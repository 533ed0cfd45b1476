"""Millions of photos on any number of machines: a manifest, shards, a row for each photo."""
