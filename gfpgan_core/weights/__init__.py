"""Weight files: the table of releases, downloading, reading, converting, loading."""
