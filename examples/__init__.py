"""Small programs over the public interfaces; `tests/test_examples.py` runs them."""
