"""OpenAI's API for images, models, files and fine-tuning jobs."""

from api.facades.openai import files, fine_tuning, images, models

ROUTERS = (images.router, models.router, files.router, fine_tuning.router)
