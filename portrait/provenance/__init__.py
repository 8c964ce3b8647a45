"""Mark generated pictures: the AI mark and Content Credentials; and read the marks of any picture."""
