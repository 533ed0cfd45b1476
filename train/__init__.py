"""Training of GFPGAN generators: degradations, data, losses, loop and checkpoints."""
