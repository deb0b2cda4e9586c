"""Processes: one worker's, and what starts and watches several."""
