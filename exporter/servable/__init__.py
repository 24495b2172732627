"""The servable itself: its signatures, its weights, its proof, and the directory it is written to."""
