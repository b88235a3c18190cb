"""Attacks on what sites let out, to measure what their releases reveal."""
