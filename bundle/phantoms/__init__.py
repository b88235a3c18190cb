"""Data that anybody may have: brains and nuclei that nobody has, and the toy's numbers."""
