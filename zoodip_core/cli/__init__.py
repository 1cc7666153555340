"""The `zoodip` command."""
