"""What an export is made from besides estimators: one file a library. Knows neither receivers nor signatures."""
