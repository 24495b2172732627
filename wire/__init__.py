"""Messages on the wire <-> numpy: the leaf every other part may import. Knows no transport and no model."""
