"""Helpers that do not depend on jobs: text for people and logs, similar names, ending background tasks."""
