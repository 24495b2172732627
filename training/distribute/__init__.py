"""More than one process: the place of this one in a cluster, and how the processes of one training work together."""
