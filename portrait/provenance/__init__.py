"""Pictures that say what they are: the AI mark, Content Credentials, and what other pictures say."""
