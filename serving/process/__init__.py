"""The server as a process: signals, exit codes, and its end."""
