"""The command ``asyndgan``: options, and calls of what does the work, imported when it is called for."""
