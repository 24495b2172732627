"""The gRPC front: threads, interceptors, health and reflection. Knows no dialect by name."""
