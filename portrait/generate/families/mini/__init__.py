"""`mini`, the shipped model: its autoencoder, how it sees the photo, and the marks that it draws."""
