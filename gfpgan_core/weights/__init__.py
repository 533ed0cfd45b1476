"""Weight files: what is known of them, fetched, read, converted, loaded into networks."""
