"""What runs once, before any training: from a folder as it was distributed to a data list."""
