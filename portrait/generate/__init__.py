"""Identity + photo -> picture: `mini` in onnxruntime, or in torch any family of networks."""
