"""What configs and jobs may say: every key, its kind of value and its meaning. Imports nothing heavy."""
