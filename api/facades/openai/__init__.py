"""OpenAI's API for images, models, files and fine-tuning jobs."""
