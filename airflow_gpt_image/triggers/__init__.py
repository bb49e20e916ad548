"""The triggers: they wait for generations without holding a worker slot."""
