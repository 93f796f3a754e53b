"""What is wrong with the threads of a trace, and what to do about it: one rule a file, their table in check.py."""
