"""Fixtures for the service tests: real databases, brokers, object stores and processes."""
