"""The protocols the server speaks, one folder each, and what all of them share."""
