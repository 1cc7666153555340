"""Façades: APIs of other services, translated to the services behind `/v1`, for the clients that people have."""
