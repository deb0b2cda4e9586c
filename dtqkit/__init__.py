"""A distributed task queue for notebooks and production."""
