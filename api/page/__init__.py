"""The page at `/`: a template and static files that use the HTTP API from the browser."""
