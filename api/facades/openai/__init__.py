"""OpenAI's API for images, models, files and fine-tuning jobs."""

from api.facades.openai import images, models

ROUTERS = (images.router, models.router)
