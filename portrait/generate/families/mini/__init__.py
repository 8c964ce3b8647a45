"""`mini`, the shipped model: its autoencoders, how it sees the photo, and the marks that it draws."""
