"""The registry's operations over HTTP, called as `intrinsic adapters` calls them."""
