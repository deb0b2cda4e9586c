"""What jobs, events, errors and settings are, and the rules that need no I/O."""
