"""Methods that learn a token, and their searches."""
