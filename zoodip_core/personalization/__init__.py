"""One personalization, from reference images to a concept."""
