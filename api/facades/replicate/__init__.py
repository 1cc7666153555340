"""Replicate's API under `/replicate`: its paths collide with OpenAI's. Errors are problem documents in both."""

from api.facades.replicate import files, predictions, trainings

ROUTERS = (predictions.router, trainings.router, files.router)
