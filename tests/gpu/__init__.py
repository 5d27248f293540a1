"""What needs a CUDA GPU."""
