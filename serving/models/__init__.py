"""Which models and versions are served: configuration, sources, loading, and the manager that holds them."""
