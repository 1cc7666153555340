"""Jobs of the service: records, states, leases, events and webhooks."""
