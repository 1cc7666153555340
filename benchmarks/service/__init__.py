"""What the service costs: polls, uploads, claims, previews, stored concepts."""
