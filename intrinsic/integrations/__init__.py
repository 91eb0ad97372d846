"""Routed adapters inside agent frameworks, without HTTP."""
