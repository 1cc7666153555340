"""The service's memory, without torch: tables, legal transitions, leases, concepts, keys, object store."""
