"""Logs of strace as traces: from files that somebody has, or from strace at work."""
