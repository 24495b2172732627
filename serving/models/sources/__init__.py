"""Where versions come from: one file a kind of place."""
