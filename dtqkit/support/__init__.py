"""Helpers that know nothing of jobs: texts for people and logs, names that are like others, ended background tasks."""
