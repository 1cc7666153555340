"""Commands that check the repository's prose and generate its reference pages."""
