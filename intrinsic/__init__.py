"""intrinsic: an event-driven memory bus that routes each request to the right LoRA adapters."""
