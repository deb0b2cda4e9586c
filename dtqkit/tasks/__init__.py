"""Functions as tasks: names, options, signatures, schemas, and their registry."""
