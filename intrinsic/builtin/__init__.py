"""What comes with intrinsic, as plugins: each can be blocked and replaced like any other."""
