"""Parsing and validating requests: parameters, uploads, images, webhook URLs, submissions."""
