"""Who may ask what: keys and certificates, their rights, and the one place that decides. Knows no transport."""
