"""Identity + photo -> picture: one engine over diffusers pipelines."""
