"""Live sessions, the trace file, and what /proc tells about threads."""
