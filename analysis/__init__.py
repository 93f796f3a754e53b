"""Analysis: from an event table to windows, statistics, plots and reports. Imports no tracer."""
