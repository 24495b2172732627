"""More than one process: the place of this one in a cluster."""
