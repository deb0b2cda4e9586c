"""A function as a task: its name, options, signature, schema, and the registry of them."""
