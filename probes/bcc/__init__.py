"""The bcc back end: its loader, iovisor's binding wherever the distribution keeps it, and the kernel's headers."""
