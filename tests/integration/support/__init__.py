"""Real parts for the tests of the service: databases, brokers, object stores, processes."""
