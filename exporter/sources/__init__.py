"""What an export is made from besides estimators: one file a library, `base` for the seam. Knows no receiver."""
