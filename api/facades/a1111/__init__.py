"""API of AUTOMATIC1111's web UI (`/sdapi/v1`) for drawing. It has no routes for training."""

from api.facades.a1111 import drawing, lists, options, png_info

ROUTERS = (drawing.router, lists.router, options.router, png_info.router)
