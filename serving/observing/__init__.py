"""What an operator sees of requests: metrics page, request log, access log. Requests do not depend on it."""
