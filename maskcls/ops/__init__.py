"""Fast torch operators: AdamP without device synchronization, depthwise convolution gradients."""
