"""Wait for many generations over one connection, with few requests at a time."""
