"""Adds an engine, an objective and a format to Sightline."""
