"""Parsing and validation of requests: parameters, uploads, images, webhook URLs and submissions."""
