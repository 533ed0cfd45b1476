"""Write weights in the formats of other tools, one module each."""
