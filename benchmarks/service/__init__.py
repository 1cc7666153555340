"""Costs of the service: polls, uploads, claims, previews, stored concepts."""
