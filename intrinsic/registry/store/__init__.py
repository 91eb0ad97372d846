"""The database behind the registry: every version, its history, its use and what people say."""
