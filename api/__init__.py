"""HTTP API: routes, schemas, authentication, uploads and event streams. Never loads torch; workers run the models."""
