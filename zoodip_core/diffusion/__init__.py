"""The frozen diffusion model: the only place in the package that imports diffusers, transformers and bitsandbytes."""
