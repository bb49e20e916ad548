"""Wait for generations without holding a worker slot."""
