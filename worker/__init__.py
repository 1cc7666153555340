"""Worker process: claims jobs, runs the engine on one thread and renews leases on another."""
