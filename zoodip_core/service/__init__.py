"""State that API and worker share: database tables, jobs, leases, concepts, API keys, object store. No torch."""
