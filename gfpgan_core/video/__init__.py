"""Videos, frame by frame through the pipeline: faces followed, timing and sound kept."""
