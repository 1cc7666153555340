"""Runs jobs: Celery's wake-ups, one thread that owns the models, leases kept alive beside it."""
