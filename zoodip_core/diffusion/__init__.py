"""The frozen diffusion model. Nothing else in zoodip_core imports diffusers, transformers or bitsandbytes."""
