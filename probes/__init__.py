"""What runs in the kernel and what loads it: the event schema, the probes, one loader each."""
